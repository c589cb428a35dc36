"""Datasets arrive whole and checked, or not at all."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SHARED
from PIL import Image

from segbench.datasets import cvc_clinicdb, download, synthetic_polyps
from segbench.errors import InputError
from segbench.params import CvcClinicDB, Folder, SyntheticPolyps
from segbench.samples import read_info, read_pixels, read_samples


def polyps(**changes: int) -> SyntheticPolyps:
    sizes = {"num_sequences": 4, "frames_per_sequence": 4, "height": 64, "width": 80, "seed": 0}
    return SyntheticPolyps(name="synthetic-polyps", **{**sizes, **changes})


def test_synthetic_polyps_repeat_and_depend_on_the_seed(tmp_path: Path) -> None:
    download(polyps(), tmp_path / "a")
    download(polyps(), tmp_path / "b")
    download(polyps(seed=1), tmp_path / "c")
    first, again, other = (read_samples(tmp_path / name) for name in "abc")
    assert first.equals(again)
    assert not (first["sha256"] == other["sha256"]).any()


def test_more_synthetic_sequences_leave_the_first_as_they_are(tmp_path: Path) -> None:
    download(polyps(), tmp_path / "few")
    download(polyps(num_sequences=6), tmp_path / "more")
    few, more = read_samples(tmp_path / "few"), read_samples(tmp_path / "more")
    assert more[: len(few)].equals(few)


def test_synthetic_frames_of_a_sequence_are_alike() -> None:
    """Which is why they are a group: a random split of frames would leak."""
    frames = list(synthetic_polyps.read(polyps(num_sequences=8)))

    def distance(a: int, b: int) -> float:
        blurred = [cv2.GaussianBlur(frames[at].image, (0, 0), 4).astype(float) for at in (a, b)]
        return float(np.abs(blurred[0] - blurred[1]).mean())

    within = [distance(4 * group, 4 * group + 1) for group in range(8)]
    between = [distance(4 * group, 4 * ((group + 1) % 8)) for group in range(8)]
    assert np.mean(within) < 0.5 * np.mean(between)


def test_synthetic_blobs_have_little_contrast() -> None:
    """Brightness alone must not solve it: blob and wall overlap."""
    frames = list(synthetic_polyps.read(polyps(num_sequences=10)))
    gaps = []
    for frame in frames:
        grey, blob = frame.image.mean(axis=2), frame.mask > 0
        if 0.02 < blob.mean() < 0.9:
            gaps.append(abs(grey[blob].mean() - grey[~blob].mean()) / grey.std())
    assert len(gaps) > 20
    assert np.mean(gaps) < 1.0


def test_canonical_form(tmp_path: Path) -> None:
    download(polyps(), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    columns = ["id", "image", "mask", "group", "stratum", "width", "height", "sha256"]
    assert list(samples) == columns
    assert samples["id"].is_monotonic_increasing
    assert read_info(tmp_path / "out").classes == ("background", "polyp")
    for row in samples.itertuples():
        image, mask = (read_pixels(tmp_path / "out" / name) for name in (row.image, row.mask))
        assert image.shape == (row.height, row.width, 3)
        assert mask.shape == (row.height, row.width)
        assert set(np.unique(mask)) <= {0, 1}


# One's own folder, and everything that can be wrong with it.


def own(folder: Path, **changes: object) -> Folder:
    fields = {
        "name": "folder",
        "title": "mine",
        "source": str(folder),
        "images": "images/{id}.png",
        "masks": "masks/{id}_mask.png",
        "classes": ["background", "crack"],
        "mask": {"values": {0: 0, 255: 1}},
        "group": None,
        "licence": "own",
        "redistributable": False,
    }
    return Folder.model_validate({**fields, **changes})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for id in ("p1_a", "p1_b", "p2_a"):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{id}.png")
        mask = np.zeros((20, 30), np.uint8)
        mask[5:10, 5:20] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{id}_mask.png")
    return folder


def test_own_folder(source: Path, tmp_path: Path) -> None:
    download(own(source, group=r"^(p\d+)_"), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert list(samples["group"]) == ["p1", "p1", "p2"]
    original = np.asarray(Image.open(source / "images" / "p1_a.png"))
    assert (read_pixels(tmp_path / "out" / samples["image"][0]) == original).all()
    mask = read_pixels(tmp_path / "out" / samples["mask"][0])
    assert mask.sum() == 5 * 15


def test_grey_palette_and_upright_images(source: Path, tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30))
    grey.save(source / "images" / "p1_a.png")
    palette = Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255).convert("P")
    palette.save(source / "masks" / "p1_a_mask.png")
    turned = Image.open(source / "images" / "p1_b.png").rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned.save(source / "images" / "p1_b.png", exif=exif)
    download(own(source), tmp_path / "out")
    samples = read_samples(tmp_path / "out").set_index("id")
    assert read_pixels(tmp_path / "out" / samples["image"]["p1_a"]).ndim == 2
    assert tuple(samples.loc["p1_b", ["height", "width"]]) == (20, 30)


def test_images_and_masks_in_one_folder_behind_a_link(source: Path, tmp_path: Path) -> None:
    for path in [*source.rglob("*.png")]:
        path.rename(source / path.name)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "deep").symlink_to(source)
    params = own(tmp_path / "linked", images="deep/{id}.png", masks="deep/{id}_mask.png")
    download(params, tmp_path / "out")
    assert list(read_samples(tmp_path / "out")["id"]) == ["p1_a", "p1_b", "p2_a"]


def remove(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def corrupt(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:60])


def resized(folder: Path) -> None:
    path = folder / "masks" / "p1_b_mask.png"
    Image.open(path).resize((32, 20), Image.Resampling.NEAREST).save(path)


def undefined_value(folder: Path) -> None:
    path = folder / "masks" / "p2_a_mask.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[0, 0] = 7
    Image.fromarray(mask).save(path)


def emptied(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.unlink()


def blank(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        Image.new("L", (30, 20)).save(path)


def deep(folder: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(folder / "images" / "p1_a.png")


def coloured(folder: Path) -> None:
    Image.new("RGB", (30, 20), (255, 0, 0)).save(folder / "masks" / "p1_a_mask.png")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (remove("masks/p1_a_mask.png"), r"p1_a\.png: image without mask .*; add the mask"),
        (remove("images/p2_a.png"), r"p2_a_mask\.png: mask without image .*; add the image"),
        (corrupt("images/p1_b.png"), r"p1_b\.png: unreadable as an image .*; replace the file"),
        (corrupt("masks/p1_b_mask.png"), r"p1_b_mask\.png: unreadable as an image"),
        (resized, r"p1_b\.png: its mask is 32x20 but the image is 30x20; .* fix the pair"),
        (undefined_value, r"p2_a_mask\.png: the mask holds the values \[7\], .*defines \[0, 255\]"),
        (emptied, r"no file matches 'images/\{id\}\.png' or .*; at least one pair is needed"),
        (deep, r"p1_a\.png: more than 8 bits a channel .*the limit is 8; convert it"),
        (blank, r"mine: no mask holds the class crack; every class must occur"),
        (coloured, r"p1_a_mask\.png: a mask in colours; .*convert it"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    spoil: Callable[[Path], None], said: str, source: Path, tmp_path: Path
) -> None:
    spoil(source)
    out = tmp_path / "out"
    with pytest.raises(InputError, match=said) as caught:
        download(own(source), out)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_class_id_beyond_the_classes(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class ids \[2\], the dataset defines 0 to 1"):
        download(own(source, mask={"values": {0: 0, 255: 2}}), tmp_path / "out")


def test_a_failed_download_leaves_the_former_one_as_it_was(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    download(own(source), out)
    before = read_samples(out)
    resized(source)
    with pytest.raises(InputError):
        download(own(source), out)
    assert read_samples(out).equals(before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": "images/*.png"}, "needs {id} exactly once"),
        ({"group": "([a-z"}, "is not a regular expression"),
        ({"group": "^x(.)"}, "finds no parenthesised part in the id 'p1_a'"),
        ({"source": "/nowhere"}, "no folder at /nowhere"),
    ],
)
def test_bad_settings(changes: dict[str, str], said: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        download(own(source, **changes), tmp_path / "out")
    assert said in str(caught.value)


# CVC-ClinicDB


def test_cvc_sequences_cover_all_frames() -> None:
    numbers = [cvc_clinicdb.sequence_of(frame) for frame in range(1, 613)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 30))


@pytest.mark.skipif(not (SHARED / "datasets").exists(), reason="needs the real frames")
def test_cvc_on_the_real_frames(tmp_path: Path) -> None:
    source = SHARED / "datasets" / "cvc-clinicdb"
    download(CvcClinicDB(name="cvc-clinicdb", source=str(source)), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert len(samples) == 612
    assert samples["group"].nunique() == 29
    table = (source / "sequences.csv").read_text().split()[1:]
    named = {
        f"{int(frame):03d}": f"seq{int(number):02d}"
        for frame, number in (line.split(",") for line in table)
    }
    assert dict(zip(samples["id"], samples["group"], strict=True)) == named
    assert not read_info(tmp_path / "out").redistributable


def test_cvc_refuses_a_foreign_frame(tmp_path: Path) -> None:
    for name in ("Original", "Ground Truth"):
        (tmp_path / "source" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "source" / name / "613.png")
    params = CvcClinicDB(name="cvc-clinicdb", source=str(tmp_path / "source"))
    with pytest.raises(InputError, match="not a frame of CVC-ClinicDB, which are named 1 to 612"):
        download(params, tmp_path / "out")
