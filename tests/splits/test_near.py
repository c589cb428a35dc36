"""Near duplicates are told from images that are merely of the same kind."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segbench.datasets.ingest import make_thumbnail
from segbench.images import Pixels
from segbench.splits.candidates import (
    NUM_ORIENTATIONS,
    CoarseStructure,
    best_orientations,
    find_candidates,
    turn,
)
from segbench.splits.likeness import MOST_LIMIT, background_of, enlarged, unmoved
from segbench.splits.near import Near, find_near_duplicates
from support.retinas import SIZE, as_bytes, retina

LEAST = 0.75


def street(scene: int, frame: int) -> Pixels:
    """A street from a camera that stands still: houses, sky, and cars that move."""
    rng = np.random.default_rng(scene)
    height, width = 120, 160
    image = np.full((height, width, 3), [200, 205, 215], np.float32)
    image[80:] = 95
    for _ in range(9):
        left, top, wide = rng.integers(0, width - 30), rng.integers(15, 60), rng.integers(12, 40)
        image[top:80, left : left + wide] = rng.uniform(40, 190, 3)
    image += cv2.GaussianBlur(rng.normal(0, 40, image.shape).astype(np.float32), (0, 0), 1.5)
    for _ in range(3):
        start, speed, colour = (
            rng.integers(0, width),
            rng.choice([-6, 5, 7]),
            rng.uniform(0, 255, 3),
        )
        left = int(start + speed * frame) % (width - 24)
        image[78:92, left : left + 24] = colour + rng.normal(0, 12, (14, 24, 3))
    noise = np.random.default_rng((scene, frame)).normal(0, 1.5, image.shape)
    return as_bytes(image + noise)


def photograph(seed: int) -> Pixels:
    """Coarse and fine texture of random sizes."""
    rng = np.random.default_rng(seed)
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    for cells, weight in ((4, 60), (12, 40), (40, 25)):
        part = rng.normal(0, weight, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return as_bytes(image + 120)


def jpeg(image: Pixels, quality: int = 40) -> Pixels:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def grey(image: Pixels) -> Pixels:
    return np.repeat(image.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "jpeg": jpeg,
    "half": lambda image: np.asarray(cv2.resize(image, (80, 80), interpolation=cv2.INTER_AREA)),
    "overexposed": lambda image: as_bytes(image * 1.5 + 30.0),
    "darker": lambda image: as_bytes(image * 0.6),
    "gamma": lambda image: as_bytes(255 * (image / 255.0) ** 0.5),
    "grey": grey,
    "noisy": lambda image: as_bytes(image + np.random.default_rng(0).normal(0, 6, image.shape)),
    "quarter turn": lambda image: jpeg(np.ascontiguousarray(np.rot90(image))),
    "half turn": lambda image: jpeg(np.ascontiguousarray(image[::-1, ::-1])),
    "mirrored": lambda image: jpeg(np.ascontiguousarray(image[:, ::-1])),
}
CROPS: dict[str, Callable[[Pixels], Pixels]] = {
    "cropped": lambda image: image[4:-9, 6:-7].copy(),
    "cropped and mirrored": lambda image: image[8:-4, 5:-6][:, ::-1].copy(),
    "turned by 4 degrees": lambda image: np.asarray(
        cv2.warpAffine(
            image, cv2.getRotationMatrix2D((80, 80), 4, 1.08), (SIZE, SIZE), borderMode=2
        )
    ),
}


def find(images: list[Pixels], groups: list[int] | None = None, within: bool = True) -> Near:
    thumbnails = np.array([make_thumbnail(image) for image in images])
    group_of = np.array(groups or range(len(images)))
    return find_near_duplicates(thumbnails, lambda row: images[row], LEAST, group_of, within)


def found(near: Near) -> set[tuple[int, int]]:
    return {(a, b) for a, b in near.pairs[: near.count].tolist()}


def raw_correlation(one: Pixels, other: Pixels) -> float:
    pair = [make_thumbnail(image).ravel().astype(float) for image in (one, other)]
    return float(np.corrcoef(pair)[0, 1])


# What is told from what ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [20, 60])
def test_different_retinas_are_not_alike(number: int) -> None:
    """Though the thumbnails of some correlate as those of copies do."""
    eyes = [retina(seed) for seed in range(number)]
    correlations = np.corrcoef([make_thumbnail(eye).ravel().astype(float) for eye in eyes])
    assert (correlations[np.triu_indices(number, 1)] > 0.97).sum() >= 3, "too easy to say anything"
    near = find(eyes)
    assert found(near) == set()
    assert near.background.drawn >= 150
    assert near.background.typical < near.background.high < near.limit


@pytest.mark.parametrize("make", [retina, photograph])
def test_copies_are_found_whatever_was_done_to_them(make: Callable[[int], Pixels]) -> None:
    images = [make(seed) for seed in range(40)]
    changes = CHANGES | (CROPS if make is photograph else {})
    expected = {}
    for at, (name, change) in enumerate(changes.items()):
        expected[at, len(images)] = name
        images.append(change(images[at]))
    near = find(images)
    assert {expected.get(pair, str(pair)) for pair in found(near)} == set(changes)
    turned = {
        expected[a, b]
        for (a, b), how in zip(near.pairs.tolist(), near.orientation, strict=True)
        if how and (a, b) in expected
    }
    names = {"quarter turn", "half turn", "mirrored", "cropped and mirrored"} & set(changes)
    assert turned == names


def test_a_brighter_copy_is_found_though_thumbnails_correlate_less() -> None:
    images = [photograph(seed) for seed in range(30)]
    images.append(as_bytes(images[7] * 1.9 + 20.0))
    assert raw_correlation(images[7], images[30]) < 0.95
    assert found(find(images)) == {(7, 30)}


def test_frames_of_a_video_are_near_duplicates_within_their_group() -> None:
    frames = [street(scene, at) for scene in range(6) for at in range(8)]
    groups = [scene for scene in range(6) for _ in range(8)]
    assert found(find(frames, groups, within=False)) == set()
    pairs = found(find(frames, groups))
    assert len(pairs) > 100
    assert all(groups[a] == groups[b] for a, b in pairs)
    # Where nobody named the videos, they show.
    unnamed = found(find(frames))
    assert len(unnamed) > 50
    assert all(groups[a] == groups[b] for a, b in unnamed)


def test_what_comes_next_is_shown_but_does_not_count() -> None:
    eyes = [retina(seed) for seed in range(60)]
    near = find([*eyes, jpeg(eyes[3])])
    below = near.likeness[near.count :]
    assert found(near) == {(3, 60)}
    assert 0 < len(below) <= 4
    assert (below < near.limit).all()
    assert (np.diff(below) <= 0).all()


def test_the_order_of_samples_does_not_matter() -> None:
    images = [photograph(seed) for seed in range(20)]
    images += [jpeg(images[4]), np.ascontiguousarray(images[9][::-1])]
    order = np.random.default_rng(1).permutation(len(images))
    shuffled = {
        frozenset(order[[*pair]].tolist()) for pair in found(find([images[at] for at in order]))
    }
    assert shuffled == {frozenset((4, 20)), frozenset((9, 21))}


def test_many_frames_of_one_place_are_no_reason_to_warn() -> None:
    frames = [street(0, at) for at in range(60)]
    assert find(frames, [0] * 60).left_out == 0


# Candidates ---------------------------------------------------------------------------------------


def test_features_of_turned_images_are_those_of_the_images_turned() -> None:
    pixels = np.array([make_thumbnail(photograph(seed)) for seed in range(12)])
    coarse = CoarseStructure(pixels)
    for orientation in range(NUM_ORIENTATIONS):
        # What all have in common stays as it is, so turn one image at a time.
        changed = pixels.copy()
        changed[5] = turn(pixels[5].transpose(2, 0, 1), orientation).transpose(1, 2, 0)
        both = CoarseStructure(np.concatenate([pixels, changed[5:6]]))
        cosine = both.features(0)[12] @ both.features(orientation)[5]
        assert cosine == pytest.approx(1, abs=1e-4)
        assert coarse.features(orientation).shape == (12, 64)


def test_candidates_are_all_pairs_above_the_least_and_the_best_of_them() -> None:
    pixels = np.array([make_thumbnail(retina(seed)) for seed in range(30)])
    coarse = CoarseStructure(pixels)
    every = find_candidates(coarse, 10**6)
    cosines = np.array(
        [coarse.features(0) @ coarse.features(at).T for at in range(NUM_ORIENTATIONS)]
    ).max(axis=0)[np.triu_indices(30, 1)]
    assert len(every.pairs) == (cosines >= 0.3).sum() > 50
    assert every.left_out == 0
    few = find_candidates(coarse, 10)
    assert few.pairs.tolist() == every.pairs[:10].tolist()
    assert few.left_out > 0
    assert (best_orientations(coarse, every.pairs) == every.orientation).all()
    group_of = np.arange(30) % 2
    apart = find_candidates(coarse, 10**6, group_of)
    expected = [pair for pair in every.pairs.tolist() if group_of[pair[0]] != group_of[pair[1]]]
    assert apart.pairs.tolist() == expected


def test_memory_of_candidates_does_not_grow_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    pixels = np.repeat(rng.integers(0, 255, (1, 32, 32, 3), np.uint8), 400, axis=0)
    pixels = as_bytes(pixels + rng.normal(0, 40, pixels.shape))
    sizes = []
    unique = np.unique

    def counting(values: NDArray[np.int64], **how: object) -> object:
        sizes.append(len(values))
        return unique(values, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "unique", counting)
    pairs = find_candidates(CoarseStructure(pixels), 50)
    assert len(pairs.pairs) == 50
    assert max(sizes) < 400 * 128


# How alike different groups are -------------------------------------------------------------------


def test_the_limit_is_that_which_a_pair_reaches_by_chance() -> None:
    rng = np.random.default_rng(0)
    drawn = np.tanh(rng.normal(0.1, 0.15, 5000)).astype(np.float32)
    found = background_of(drawn, 10**5, LEAST)
    every = np.tanh(rng.normal(0.1, 0.15, 10**5))
    assert abs(found.typical - np.tanh(0.1)) < 0.05
    assert (every >= found.limit).sum() <= 5
    assert (every >= found.limit - 0.15).sum() >= 5
    assert background_of(drawn, 10**9, LEAST).limit > found.limit


def test_duplicates_among_the_drawn_pairs_hide_none() -> None:
    rng = np.random.default_rng(0)
    drawn = np.tanh(rng.normal(0.1, 0.15, 200)).astype(np.float32)
    clean = background_of(drawn, 10**4, LEAST).limit
    drawn[:30] = 0.97
    assert background_of(drawn, 10**4, LEAST).limit == pytest.approx(clean, abs=0.08)


def test_where_all_show_one_scene_only_copies_count() -> None:
    assert background_of(np.full(50, 0.95, np.float32), 10**4, LEAST).limit == MOST_LIMIT
    assert background_of(np.full(3, 0.95, np.float32), 3, LEAST).drawn == 0


def test_a_warp_of_small_images_is_one_of_large_ones() -> None:
    assert enlarged(unmoved(), 4) == pytest.approx(unmoved())
    warp = np.array([[1.1, 0.05, 0.7], [-0.02, 0.93, -1.2]], np.float32)
    large = enlarged(warp, 4)
    for point in ([0.0, 0.0], [31.0, 4.0]):
        moved = warp @ [*point, 1]
        # Pixel p of the small image covers 4 p to 4 p + 3 of the large one.
        assert large @ [*(4 * np.array(point) + 1.5), 1] == pytest.approx(4 * moved + 1.5, abs=1e-4)
