"""What shows the same is found, however it was saved, turned or drawn on, and nothing else is."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from segbench.datasets.canonical import DatasetInfo, Sample, SampleReader, read_samples, read_table
from segbench.datasets.ingest import ingest, make_thumbnail
from segbench.images import Pixels
from segbench.splits import duplicates as leakage
from segbench.splits import near
from segbench.splits.annotations import is_annotated
from segbench.splits.assign import UNUSED
from segbench.splits.duplicates import Duplicates, find_duplicates, merge_duplicates
from segbench.splits.leaks import crosses_splits, equals_cross_splits, torn_groups
from segbench.splits.likeness import NO_BACKGROUND

HEIGHT, WIDTH = 96, 128
LEAST = 0.75
INFO = DatasetInfo("hand-made", ("background", "thing"), "none", True, "")
FEW, MANY = 12, 60

Change = Callable[[Pixels], Pixels]


def scene(seed: int) -> Pixels:
    """A smooth random texture."""
    rng = np.random.default_rng(seed)
    coarse, fine = (rng.uniform(0, 255, size).astype(np.float32) for size in ((6, 8, 3), (24, 32)))
    large, small = (cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
                    for part in (coarse, fine))  # fmt: skip
    return as_bytes(0.8 * large + 0.2 * small[..., None])


def as_bytes(values: NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def find(
    folder: Path,
    images: dict[str, Pixels],
    previous: dict[str, str] | None = None,
    groups: dict[str, str] | None = None,
) -> tuple[Duplicates, pd.DataFrame]:
    """What is alike in a dataset of these images, and its samples; between groups if given."""
    samples = [
        Sample(
            id=id,
            image=image,
            mask=np.eye(*image.shape[:2], dtype=np.uint8),
            group=(groups or {}).get(id, id),
            stratum="",
            source=id,
            previous=(previous or {}).get(id, ""),
        )
        for id, image in images.items()
    ]
    tasks = [SampleReader(1, lambda sample=sample: [sample]) for sample in samples]  # type: ignore[misc]
    ingest(tasks, INFO, "error", folder)
    table = read_samples(folder)
    measures = read_table(folder / "measures.csv")
    return find_duplicates(folder, table, measures, LEAST, groups is None), table


def named(pairs: NDArray[np.int64], samples: pd.DataFrame) -> set[tuple[str, str]]:
    """Pairs by id; the first comes first in the table."""
    assert (pairs[:, 0] < pairs[:, 1]).all()
    ids = samples["id"].to_numpy(str)
    found = [(str(ids[first]), str(ids[second])) for first, second in pairs]
    assert len(set(found)) == len(found)
    return set(found)


def scenes(number: int) -> dict[str, Pixels]:
    return {f"s{at:02d}": scene(at) for at in range(number)}


def nothing_else(alike: Duplicates, *kinds: str) -> None:
    for kind in {"exact", "near", "annotated"} - set(kinds):
        assert not len(getattr(alike, kind)), kind


# What is found -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, FEW, MANY])
def test_different_scenes_are_not_alike(number: int, tmp_path: Path) -> None:
    alike, _ = find(tmp_path / "data", scenes(number))
    nothing_else(alike)
    assert len(alike.neighbours) == len(alike.blank) == alike.unseen == 0


@pytest.mark.parametrize("number", [FEW, MANY])
def test_equal_images_are_paired_with_the_first(number: int, tmp_path: Path) -> None:
    images = scenes(number)
    images |= {"x1": images["s03"], "x2": images["s03"], "x3": images["s05"]}
    alike, samples = find(tmp_path / "data", images)
    assert named(alike.exact, samples) == {("s03", "x1"), ("s03", "x2"), ("s05", "x3")}
    nothing_else(alike, "exact")


def jpeg(image: Pixels, quality: int = 30) -> Pixels:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def half(image: Pixels) -> Pixels:
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (WIDTH, HEIGHT)), np.uint8)


def noisy(image: Pixels, level: float = 8) -> Pixels:
    return as_bytes(image + np.random.default_rng(0).normal(0, level, image.shape))


CHANGES: dict[str, Change] = {
    "jpeg": jpeg,
    "half": half,
    "smaller": lambda image: np.asarray(cv2.resize(image, (77, 51)), np.uint8),
    "brighter": lambda image: as_bytes(image * 1.1),
    "darker": lambda image: as_bytes(image - 20.0),
    "noisy": noisy,
    "blurred": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 2), np.uint8),
    "moved": lambda image: np.roll(image, 1, axis=1),
}


@pytest.mark.parametrize("number", [FEW, MANY])
def test_near_duplicates(number: int, tmp_path: Path) -> None:
    images = scenes(number)
    expected = set()
    for at, (name, change) in enumerate(CHANGES.items()):
        images[name] = change(images[f"s{at:02d}"])
        expected.add((f"s{at:02d}", name))
    alike, samples = find(tmp_path / "data", images)
    assert named(alike.near, samples) == expected
    nothing_else(alike, "near")
    assert not alike.turned.any()
    assert len(alike.likeness) == len(alike.turned) == len(expected)
    assert ((alike.likeness >= alike.limit) & (alike.likeness <= 1 + 1e-6)).all()
    assert (np.diff(alike.likeness) <= 0).all()


def test_grey_images_are_compared_too(tmp_path: Path) -> None:
    images = {id: image[..., 0] for id, image in scenes(MANY).items()}
    images |= {"copy": images["s01"], "jpeg": jpeg(images["s02"])[..., 0]}
    alike, samples = find(tmp_path / "data", images)
    assert named(alike.exact, samples) == {("s01", "copy")}
    assert named(alike.near, samples) == {("s02", "jpeg")}


ORIENTATIONS: dict[str, Change] = {
    "quarter": lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    "half-turn": lambda image: cv2.rotate(image, cv2.ROTATE_180),
    "three-quarters": lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
    "left-right": lambda image: cv2.flip(image, 1),
    "up-down": lambda image: cv2.flip(image, 0),
    "transposed": lambda image: np.ascontiguousarray(image.transpose(1, 0, 2)),
    "other-diagonal": lambda image: np.ascontiguousarray(image[::-1, ::-1].transpose(1, 0, 2)),
}  # type: ignore[dict-item]


@pytest.mark.parametrize("number", [FEW, MANY])
@pytest.mark.parametrize("saved", [lambda image: image, jpeg], ids=["as it was", "as JPEG"])
def test_turned_and_mirrored_copies(number: int, saved: Change, tmp_path: Path) -> None:
    images = scenes(number)
    expected = set()
    for at, (name, turn) in enumerate(ORIENTATIONS.items()):
        images[name] = saved(turn(images[f"s{at:02d}"]))
        expected.add((f"s{at:02d}", name))
    alike, samples = find(tmp_path / "data", images)
    assert named(alike.near, samples) == expected
    assert alike.turned.all()
    nothing_else(alike, "near")


def test_all_orientations_of_one_scene(tmp_path: Path) -> None:
    turned = {name: turn(scene(0)) for name, turn in ORIENTATIONS.items()}
    alike, samples = find(tmp_path / "data", scenes(MANY) | turned)
    assert named(alike.near, samples) == set(combinations(["s00", *ORIENTATIONS], 2))
    assert alike.turned.all()


def labelled(image: Pixels) -> Pixels:
    return np.asarray(cv2.putText(image.copy(), "No. 7", (8, 24), 0, 0.7, (255,) * 3, 2))


def circled(image: Pixels) -> Pixels:
    return np.asarray(cv2.circle(image.copy(), (70, 50), 22, (0, 255, 0), 2))


@pytest.mark.parametrize("number", [FEW, MANY])
def test_annotated_copies(number: int, tmp_path: Path) -> None:
    images = scenes(number)
    images |= {"label": labelled(images["s00"]), "circle": circled(images["s01"])}
    alike, samples = find(tmp_path / "data", images)
    assert named(alike.annotated, samples) == {("s00", "label"), ("s01", "circle")}
    nothing_else(alike, "annotated")
    assert alike.unseen == 0


def test_many_candidates_for_annotation_are_not_all_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leakage, "MOST_DECODED", 1)
    images = scenes(FEW)
    images |= {"label": labelled(images["s00"]), "circle": circled(images["s01"])}
    alike, _ = find(tmp_path / "data", images)
    assert len(alike.annotated) == 1
    assert alike.unseen == 1


def test_annotated_means_drawn_on_not_merely_changed() -> None:
    image = scene(0)
    assert is_annotated(image, labelled(image))
    assert is_annotated(circled(image), image)
    assert is_annotated(image[..., 0].copy(), circled(image)[..., 0].copy())
    other = [image, scene(1), image[:-2], *(change(image) for change in CHANGES.values())]
    assert not any(is_annotated(image, one) for one in other)
    # The next frame of a video: a part moved a little, few pixels by much.
    shade = np.full_like(image, 100)
    moved = shade.copy()
    moved[:16] += 12
    moved[:1, :40] += 60
    assert not is_annotated(shade, moved)
    moved[:16, 40:80] += 60
    assert is_annotated(shade, moved)


def framed(image: Pixels) -> Pixels:
    """Seen through a round opening with a bright logo, as an endoscope shows it."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    away = np.hypot((rows - HEIGHT / 2) / HEIGHT, (columns - WIDTH / 2) / WIDTH)
    light = np.clip(1.15 - 2.4 * away, 0, 1)[..., None] ** 0.7
    seen = as_bytes(light * (190 + 0.12 * (image - 127.5)))
    seen[4:14, 4:40] = 255
    return seen


def test_a_common_frame_makes_nothing_alike(tmp_path: Path) -> None:
    images = {id: framed(image) for id, image in scenes(MANY).items()}
    thumbnails = np.array([make_thumbnail(image).ravel() for image in images.values()], float)
    correlations = np.corrcoef(thumbnails)
    assert correlations.min() > LEAST, "the frame is too weak for this to say anything"
    alike, _ = find(tmp_path / "none", images)
    nothing_else(alike)
    # Near duplicates are found within the frame all the same, though what differs is faint.
    images |= {"jpeg": jpeg(images["s07"], 75), "noisy": noisy(images["s09"], 2)}
    alike, samples = find(tmp_path / "some", images)
    assert named(alike.near, samples) == {("s07", "jpeg"), ("s09", "noisy")}


def test_a_darker_copy_within_a_common_frame(tmp_path: Path) -> None:
    images = {id: framed(image) for id, image in scenes(MANY).items()}
    images["darker"] = as_bytes(images["s09"] * 0.9)
    alike, samples = find(tmp_path / "data", images)
    assert named(alike.near, samples) == {("s09", "darker")}


def test_blank_images_are_counted_not_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blanks = {
        f"blank{at}": as_bytes(level + rng.normal(0, 1, (HEIGHT, WIDTH, 3)))
        for at, level in enumerate((0, 40, 41, 255))
    }
    alike, _ = find(tmp_path / "data", scenes(MANY) | blanks)
    assert len(alike.blank) == 4
    nothing_else(alike)


def test_equal_blank_images_are_exact_duplicates(tmp_path: Path) -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    alike, samples = find(tmp_path / "data", scenes(FEW) | {"b1": black, "b2": black})
    assert named(alike.exact, samples) == {("b1", "b2")}
    assert len(alike.blank) == 2
    nothing_else(alike, "exact")


def test_nothing_but_blank_images(tmp_path: Path) -> None:
    blanks = {f"b{at}": np.full((HEIGHT, WIDTH), 40 * at, np.uint8) for at in range(4)}
    alike, _ = find(tmp_path / "data", blanks)
    assert len(alike.blank) == 4
    nothing_else(alike)


def test_neighbours_are_those_that_continue(tmp_path: Path) -> None:
    alike, samples = find(
        tmp_path / "data", scenes(5), {"s01": "s00", "s02": "s01", "s03": "s04", "s00": "gone"}
    )
    assert named(alike.neighbours, samples) == {("s00", "s01"), ("s01", "s02"), ("s03", "s04")}


def test_samples_of_one_group_need_not_be_compared(tmp_path: Path) -> None:
    images = scenes(MANY)
    images |= {"near": jpeg(images["s00"]), "turned": cv2.flip(images["s01"], 1)}  # type: ignore[dict-item]
    images |= {"far": jpeg(images["s02"]), "label": labelled(images["s03"])}
    groups = {"near": "s00", "turned": "s01", "label": "s03"}
    alike, samples = find(tmp_path / "apart", images, groups=groups)
    assert named(alike.near, samples) == {("s02", "far")}
    nothing_else(alike, "near")
    alike, samples = find(tmp_path / "all", images)
    assert len(alike.near) == 3
    assert len(alike.annotated) == 1


def test_of_too_many_candidates_the_least_alike_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "MOST_DECODED", 3)
    images = scenes(FEW)
    images |= {f"x{at}": jpeg(images[f"s{at:02d}"]) for at in range(5)}
    alike, samples = find(tmp_path / "data", images)
    assert alike.unseen == 2
    assert len(alike.near) == 3
    assert named(alike.near, samples) <= {(f"s{at:02d}", f"x{at}") for at in range(5)}


# What is on both sides of a split -----------------------------------------------------------------


def test_pairs_that_cross_splits() -> None:
    split = np.array(["train", "val", "test", UNUSED, "train"])
    pairs = np.array([(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4)])
    expected = [True, True, False, False, True, False, False]
    assert crosses_splits(pairs, split).tolist() == expected
    assert crosses_splits(np.zeros((0, 2), np.int64), split).tolist() == []


def test_equals_whose_first_is_unused_cross_splits() -> None:
    pairs = np.array([(0, 1), (0, 2), (3, 4)])
    split = np.array([UNUSED, "train", "test", "train", UNUSED])
    assert equals_cross_splits(pairs, split).sum() == 1
    assert equals_cross_splits(pairs, np.array([UNUSED, "val", "val", "val", "test"])).tolist() == [
        *(False, False, True)
    ]
    assert split[0] == UNUSED


def test_torn_groups() -> None:
    rows = [("b", "train"), ("b", "test"), ("a", "val"), ("a", "train"), ("c", "test")]
    rows += [("c", UNUSED), ("d", UNUSED)]
    assert torn_groups(pd.DataFrame(rows, columns=["group", "split"])) == ["a", "b"]


def chained(seed: int) -> dict[str, Pixels]:
    """Scenes, of which 40 to 45 are a chain: the ends are not alike, each step is."""
    images = scenes(40)
    images |= {f"s{at}": np.roll(scene(99), 6 * (at - 40), axis=1) for at in range(40, 46)}
    order = np.random.default_rng(seed).permutation(sorted(images))
    return {str(id): images[id] for id in order}


def test_a_chain_becomes_one_group_whatever_the_order(tmp_path: Path) -> None:
    found = []
    for seed in range(3):
        images = chained(seed) | {"copy": scene(3), "label": labelled(scene(4))}
        alike, samples = find(tmp_path / str(seed), images)
        groups = dict(zip(samples["id"], merge_duplicates(samples, alike), strict=True))
        pairs = {frozenset(pair) for pair in named(alike.near, samples)}
        assert frozenset(("s40", "s41")) in pairs
        assert frozenset(("s40", "s45")) not in pairs
        found.append((groups, pairs))
    groups, _ = found[0]
    assert all(one == found[0] for one in found)
    assert {groups[f"s{at}"] for at in range(40, 46)} == {"s40"}
    assert groups["s03"] == groups["copy"] == "copy"
    assert groups["s04"] == groups["label"] == "label"
    alone = {f"s{at:02d}" for at in range(40)} - {"s03", "s04"}
    assert all(groups[id] == id for id in alone)


def test_joining_unites_whole_groups() -> None:
    samples = pd.DataFrame({"group": ["b", "b", "a", "c", "c", "d"]}, index=range(10, 16))
    none, no = np.zeros((0, 2), np.int64), np.zeros(0, bool)
    alike = Duplicates(
        exact=np.array([(1, 3)]),
        near=np.array([(2, 4)]),
        likeness=np.ones(1, np.float32),
        turned=no,
        runners_up=np.array([(4, 5)]),
        runners_up_likeness=np.ones(1, np.float32),
        annotated=none,
        neighbours=np.array([(4, 5)]),
        limit=LEAST,
        background=NO_BACKGROUND,
        blank=np.zeros(0, np.int64),
        unseen=0,
    )
    groups = merge_duplicates(samples, alike)
    assert groups.tolist() == ["a"] * 5 + ["d"]
    assert groups.index.equals(samples.index)
