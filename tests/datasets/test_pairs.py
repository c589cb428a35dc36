"""Datasets arrive whole and checked, or not at all."""

import hashlib
import os
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segbench.datasets.canonical import (
    DatasetInfo,
    Sample,
    SampleReader,
    read_info,
    read_samples,
    read_table,
    read_thumbnails,
)
from segbench.datasets.download import download
from segbench.datasets.ingest import MEASURE_COLUMNS, SAMPLE_COLUMNS, ingest
from segbench.datasets.sources import cvc_clinicdb, synthetic_polyps
from segbench.errors import InputError
from segbench.images import read_pixels
from segbench.params.datasets import Folder, Published, SyntheticPolyps
from support.masks import nearest, stripes
from support.own_folder import (
    HEIGHT,
    LIMITS,
    TRUTH,
    WIDTH,
    Fields,
    encoded,
    make_source,
    noise,
    own,
)
from support.params import SHARED


def polyps(**changes: int) -> SyntheticPolyps:
    sizes = {"num_sequences": 4, "frames_per_sequence": 4, "height": 64, "width": 80}
    sizes |= {"seed": 0, "contrast": 1.0}
    return SyntheticPolyps(name="synthetic-polyps", **{**sizes, **changes})


def frames_of(params: SyntheticPolyps) -> list[Sample]:
    return [sample for task in synthetic_polyps.readers(params) for sample in task.read()]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_synthetic_polyps_repeat_and_depend_on_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        download(polyps(seed=seed), tmp_path / name)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    first, other = read_samples(tmp_path / "a"), read_samples(tmp_path / "c")
    assert not (first["sha256"] == other["sha256"]).any()


def test_more_synthetic_sequences_leave_the_first_as_they_are(tmp_path: Path) -> None:
    download(polyps(), tmp_path / "few")
    download(polyps(num_sequences=6), tmp_path / "more")
    few, more = read_samples(tmp_path / "few"), read_samples(tmp_path / "more")
    assert more[: len(few)].equals(few)


def test_synthetic_frames_of_a_sequence_are_alike() -> None:
    """Which is why they are a group: a random split of frames would leak."""
    frames = frames_of(polyps(num_sequences=8))

    def distance(a: int, b: int) -> float:
        blurred = [cv2.GaussianBlur(frames[at].image, (0, 0), 4).astype(float) for at in (a, b)]
        return float(np.abs(blurred[0] - blurred[1]).mean())

    within = [distance(4 * group, 4 * group + 1) for group in range(8)]
    between = [distance(4 * group, 4 * ((group + 1) % 8)) for group in range(8)]
    assert np.mean(within) < 0.5 * np.mean(between)


def test_synthetic_blobs_have_little_contrast() -> None:
    """Brightness alone must not solve it: blob and wall overlap."""
    gaps = []
    for frame in frames_of(polyps(num_sequences=10)):
        grey, blob = frame.image.mean(axis=2), frame.mask > 0
        if 0.02 < blob.mean() < 0.9:
            gaps.append(abs(grey[blob].mean() - grey[~blob].mean()) / grey.std())
    assert len(gaps) > 20
    assert np.mean(gaps) < 1.0


def test_canonical_form(tmp_path: Path) -> None:
    said = download(polyps(), tmp_path / "out")
    assert said == f"16 images with masks of synthetic-polyps in {tmp_path / 'out'}"
    samples = read_samples(tmp_path / "out")
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert (*samples,) == SAMPLE_COLUMNS
    assert (*measures,) == MEASURE_COLUMNS
    assert samples["id"].is_monotonic_increasing
    assert (samples["id"] == measures["id"]).all()
    assert read_info(tmp_path / "out") == synthetic_polyps.INFO
    assert (tmp_path / "out" / "skipped.csv").read_text() == "reason\n"
    assert read_thumbnails(tmp_path / "out").shape == (16, 32, 32, 3)
    rows, measured = samples.to_dict("records"), measures.to_dict("records")
    for row, of_row in zip(rows, measured, strict=True):
        image, mask = (read_pixels(tmp_path / "out" / row[name]) for name in ("image", "mask"))
        assert image.shape == (row["height"], row["width"], row["channels"])
        assert mask.shape == (row["height"], row["width"])
        assert set(np.unique(mask)) <= {0, 1}
        digest = hashlib.sha256(image.tobytes())
        assert digest.hexdigest() == of_row["image_sha256"]
        digest.update(mask.tobytes())
        assert digest.hexdigest() == row["sha256"]


# What is measured of a sample.


def measure(tmp_path: Path, mask: list[list[int]], **fields: Any) -> Fields:
    """Measures of one hand-made mask, taken by ingest."""
    pixels = np.array(mask, np.uint8)
    image = fields.pop("image", np.full((*pixels.shape, 3), (10, 20, 30), np.uint8))
    sample = Sample("a", image, pixels, "a", "", "deep/a.png", **fields)
    rest = np.full_like(pixels, 1)
    rest[0, 0] = 2  # every class must occur
    other = Sample("b", image, rest, "b", "", "b.png")
    tasks = [SampleReader(1, lambda: [sample]), SampleReader(1, lambda: [other])]
    info = DatasetInfo("hand-made", ("background", "one", "two"), "none", True, "")
    ingest(tasks, info, "error", tmp_path / "out")
    table = read_table(tmp_path / "out" / "measures.csv")
    return {str(name): value for name, value in table.iloc[0].items()}


def test_measures_of_a_mask(tmp_path: Path) -> None:
    found = measure(
        tmp_path,
        [
            [1, 1, 0, 0, 0, 0],
            [1, 0, 0, 0, 2, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 255, 255, 0],
        ],
        mask_values=4,
        mask_between=0.25,
        mask_resized=True,
        exif="turned 6",
        exif_other=0.5,
        clipped=0.25,
        transparent=0.125,
        contested=3,
        ignored_foreground=5,
        without_file=(2, 1),
    )
    assert found.pop("image_sha256")
    assert found == {
        "id": "a",
        "file": "a.png",
        "foreground": pytest.approx(4 / 22, abs=1e-6),  # of what is labelled
        "border": pytest.approx(3 / 16, abs=1e-6),
        "ignored": pytest.approx(2 / 24, abs=1e-6),
        "components": 2,
        "red": 10,
        "green": 20,
        "blue": 30,
        "contrast": 0,
        "mask_values": 4,
        "mask_between": 0.25,
        "mask_resized": 1,
        "exif": "turned 6",
        "exif_other": 0.5,
        "clipped": 0.25,
        "transparent": 0.125,
        "contested": 3,
        "ignored_foreground": 5,
        "without_file": "1 2",
        "class_pixels": "18 3 1",
    }


def test_measures_of_touching_regions_and_a_grey_image(tmp_path: Path) -> None:
    """Corners touch, and so do classes; ignored pixels are no foreground."""
    image = np.array([[0, 100, 0, 100]] * 3, np.uint8)
    mask = [[1, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 1]]
    found = measure(tmp_path, mask, image=image)
    assert found["components"] == 1
    assert found["border"] == pytest.approx(2 / 10)
    assert [found[name] for name in ("red", "green", "blue", "contrast")] == [50] * 4
    assert read_thumbnails(tmp_path / "out").shape == (2, 32, 32, 3)


def test_measures_of_a_mask_that_is_ignored_or_foreground_throughout(tmp_path: Path) -> None:
    ignored = measure(tmp_path, [[255] * 3] * 3)
    assert [ignored[name] for name in ("foreground", "border", "ignored", "components")] == [
        *(0, 0, 1, 0)
    ]
    full = measure(tmp_path, [[1] * 3] * 3)
    assert [full[name] for name in ("foreground", "border", "ignored", "components")] == [
        *(1, 1, 0, 1)
    ]


# One's own folder, and everything that can be wrong with it.

THRESHOLD: Fields = {"threshold": 128, "invert": False}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source", ("p1_a", "p1_b", "p2_a"))


def test_own_folder(source: Path, tmp_path: Path) -> None:
    download(own(source), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert list(samples["group"]) == list(samples["id"]) == ["p1_a", "p1_b", "p2_a"]
    assert not samples[["stratum", "split", "previous"]].to_numpy().any()
    assert (read_pixels(tmp_path / "out" / samples["image"][0]) == noise(0)).all()
    assert (read_pixels(tmp_path / "out" / samples["mask"][0]) == TRUTH).all()
    info = read_info(tmp_path / "out")
    assert (info.name, info.classes) == ("mine", ("background", "crack"))
    assert (info.foreground, info.published) == ((0.0, 0.5), 0)
    download(own(source, foreground=(0.2, 0.9), redistributable=True), tmp_path / "out")
    info = read_info(tmp_path / "out")
    assert (info.foreground, info.redistributable) == ((0.2, 0.9), True)


def test_images_and_masks_in_one_folder_behind_a_link(source: Path, tmp_path: Path) -> None:
    for path in [*source.rglob("*.png")]:
        path.rename(source / path.name)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "deep").symlink_to(source)
    params = own(tmp_path / "linked", images="deep/{id}.png", masks="deep/{id}_mask.png")
    download(params, tmp_path / "out")
    assert list(read_samples(tmp_path / "out")["id"]) == ["p1_a", "p1_b", "p2_a"]


def test_a_folder_for_each_sample(source: Path, tmp_path: Path) -> None:
    for path in [*(source / "images").iterdir()]:
        folder = source / "deep" / path.stem
        folder.mkdir(parents=True)
        path.rename(folder / "image.png")
        (source / "masks" / f"{path.stem}_mask.png").rename(folder / "mask.png")
    params = own(source, images="**/{id}/image.png", masks="**/{id}/mask.png")
    download(params, tmp_path / "out")
    assert list(read_samples(tmp_path / "out")["id"]) == ["p1_a", "p1_b", "p2_a"]


def test_own_folder_in_an_archive(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    write_table(source / "labels.csv", "site", "abc")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in source.rglob("*.*"):
            archive.write(path, path.relative_to(source))
    label = {"table": "labels.csv", "id": "name", "column": "site"}
    download(own(tmp_path / "mine.zip", stratum=label), tmp_path / "out")
    assert list(read_samples(tmp_path / "out")["stratum"]) == ["a", "b", "c"]


# Labels


def write_table(path: Path, column: str, values: Iterable[str]) -> None:
    rows = zip(("p1_a", "p1_b", "p2_a"), values, strict=True)
    path.write_text(f"name,{column}\n" + "".join(f"{id},{value}\n" for id, value in rows))


def test_labels_from_names_and_tables(source: Path, tmp_path: Path) -> None:
    write_table(source / "sites.csv", "site", ("007", "NA", "é"))
    with (source / "sites.csv").open("a") as file:
        file.write("not_there,1\n")  # a table may know of more
    write_table(tmp_path / "parts.csv", "part", ("train", "val", ""))
    params = own(
        source,
        group={"pattern": r"^(p\d+)_"},
        stratum={"table": "sites.csv", "id": "name", "column": "site"},
        split={"table": str(tmp_path / "parts.csv"), "id": "name", "column": "part"},
    )
    download(params, tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert list(samples["group"]) == ["p1", "p1", "p2"]
    assert list(samples["stratum"]) == ["007", "NA", "é"]
    assert list(samples["split"]) == ["train", "val", ""]


def test_numbers_in_a_table_stay_text(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", ("01", "1", "2"))
    (source / "t.csv").write_text("name,label\n1,007\n01,7\n2,1.50\n")
    download(own(source, stratum=FROM_TABLE), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert list(samples["id"]) == ["01", "1", "2"]
    assert list(samples["stratum"]) == ["7", "007", "1.50"]


def test_a_split_from_names(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", ("test_1", "train_1", "val_1"))
    download(own(source, split={"pattern": "^([a-z]+)_"}), tmp_path / "out")
    assert list(read_samples(tmp_path / "out")["split"]) == ["test", "train", "val"]


FROM_TABLE: Fields = {"table": "t.csv", "id": "name", "column": "label"}


@pytest.mark.parametrize("kind", ["group", "stratum", "split"])
@pytest.mark.parametrize(
    ("label", "table", "said"),
    [
        ({"pattern": "([a-z"}, None, "'([a-z' is not a regular expression ("),
        ({"pattern": "^x(.)"}, None, "finds no parenthesised part in the id 'p1_a'"),
        ({"pattern": "^p1"}, None, "finds no parenthesised part in the id 'p1_a'"),
        ({"pattern": "^p1|(p2)"}, None, "finds no parenthesised part in the id 'p1_a'"),
        (FROM_TABLE, None, "t.csv unreadable as CSV ("),
        (FROM_TABLE, "", "t.csv unreadable as CSV ("),
        (FROM_TABLE, 'name,label\n"p1_a,1\n', "t.csv unreadable as CSV ("),
        (FROM_TABLE, "id,label\np1_a,1\n", "t.csv has no column 'name'; it has id, label"),
        (FROM_TABLE, "name,x\np1_a,1\n", "t.csv has no column 'label'; it has name, x"),
        (FROM_TABLE, "name,label\np1_a,val\np2_a,val\n", "t.csv names no 'p1_b' in 'name' (1 of 3"),
        (FROM_TABLE, "name,label\np1_a,1\np1_a,2\n", "t.csv names 'p1_a' more than once in 'name'"),
    ],
)
def test_bad_labels(
    kind: str, label: Fields, table: str | None, said: str, source: Path, tmp_path: Path
) -> None:
    if table is not None:
        (source / "t.csv").write_text(table)
    with pytest.raises(InputError) as caught:
        download(own(source, **{kind: label}), tmp_path / "out")
    assert str(caught.value).startswith(f"dataset.{kind}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("part", ["Trains", "holdout", "0"])
def test_a_foreign_split(part: str, source: Path, tmp_path: Path) -> None:
    write_table(source / "t.csv", "label", ("train", part, "test"))
    with pytest.raises(InputError, match=f"'{part}' for the id 'p1_b'; it must be one of t"):
        download(own(source, split=FROM_TABLE), tmp_path / "out")


# Names of files


def test_names_become_plain_and_stay_unique(tmp_path: Path) -> None:
    names = ["患者1", "患者2", "a b", "a_b", "patient ä 'x' \"1\"", "50%, #2", "p1", "é" * 100]
    source = make_source(tmp_path / "source", names)
    table = pd.DataFrame({"name": names, "label": [f"g{at}" for at in range(len(names))]})
    table.to_csv(source / "t.csv", index=False)
    download(own(source, group=FROM_TABLE), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert samples["id"].is_unique
    assert samples["id"].is_monotonic_increasing
    assert all(re.fullmatch("[A-Za-z0-9._-]+", id) for id in samples["id"])
    assert {"p1", "a_b"} < set(samples["id"])  # a plain name stays
    rows = zip(samples["group"], samples["image"], measures["file"], strict=True)
    for group, image, file in rows:
        at = names.index(Path(file).stem)
        assert group == f"g{at}"
        assert (read_pixels(tmp_path / "out" / image) == noise(at)).all()


def test_a_name_as_long_as_names_can_be(source: Path, tmp_path: Path) -> None:
    name = "ä " + "x" * 243
    (source / "images" / "p1_a.png").rename(source / "images" / f"{name}.png")
    for path in [*(source / "masks").iterdir()]:
        path.rename(path.with_name(path.name.replace("_mask", "").replace("p1_a", name)))
    download(own(source, masks="masks/{id}.png"), tmp_path / "out")
    assert sorted(len(id) for id in read_samples(tmp_path / "out")["id"]) == [4, 4, 150]


def test_a_name_that_is_no_text(source: Path, tmp_path: Path) -> None:
    try:
        (source / "images" / "p1_a.png").rename(source / "images" / os.fsdecode(b"p\xff.png"))
    except OSError:
        pytest.skip("such a name cannot be here")
    with pytest.raises(InputError, match=r"the file name 'images/p\\udcff.png' is not UTF-8"):
        download(own(source), tmp_path / "out")


def test_hidden_files_are_no_images(source: Path, tmp_path: Path) -> None:
    for name in ("images/._p1_a.png", "images/.DS_Store", "masks/._p1_a_mask.png"):
        (source / name).write_bytes(b"\0\5\26\7")
    download(own(source, images="**/{id}.*", masks="**/{id}_mask.*"), tmp_path / "out")
    assert len(read_samples(tmp_path / "out")) == 3


def test_two_files_of_one_id(source: Path, tmp_path: Path) -> None:
    (source / "images" / "p1_b.jpg").write_bytes(encoded(Image.fromarray(noise(1)), "JPEG"))
    with pytest.raises(InputError, match=r"p1_b\.png: has the id 'p1_b' of .*p1_b\.jpg; ids must"):
        download(own(source), tmp_path / "out")


# Forms of image files


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file of packed rows, each after its filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


FLAT = np.repeat(np.array([[[0, 0, 0], [200, 40, 90], [255] * 3]], np.uint8), 10, 1).repeat(20, 0)
COLOUR = Image.fromarray(FLAT)
GREY = COLOUR.convert("L")
TWO = Image.fromarray(TRUTH * 255)
JPEG: Fields = {"quality": 100, "subsampling": 0}
CANONICAL = {
    "rgb.png": encoded(COLOUR, "PNG"),
    "grey.png": encoded(GREY, "PNG"),
    "rgb.jpg": encoded(COLOUR, "JPEG", **JPEG),
    "grey.jpg": encoded(GREY, "JPEG", **JPEG),
    "progressive.jpg": encoded(COLOUR, "JPEG", progressive=True, **JPEG),
    "upright.jpg": encoded(COLOUR, "JPEG", exif=turned(1), **JPEG),
    "transparent.png": encoded(COLOUR, "PNG", transparency=(0, 0, 0)),
    "png.jpg": encoded(COLOUR, "PNG"),  # the bytes tell, not the name
}
CORNERS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
CORNERS[:5, :5], CORNERS[-5:, :5] = 255, (255, 0, 0)
BYTES = bytes([255, 0, 128]) + bytes(253)
CONVERTED: dict[str, tuple[bytes, Image.Image]] = {
    "rgba.png": (encoded(Image.merge("RGBA", (*COLOUR.split(), TWO)), "PNG"), COLOUR),
    "la.png": (encoded(Image.merge("LA", (GREY, TWO)), "PNG"), GREY),
    "1bit.png": (encoded(TWO.convert("1"), "PNG"), TWO),
    "palette.png": (encoded(COLOUR.quantize(), "PNG"), COLOUR),
    "half transparent.png": (encoded(COLOUR.quantize(), "PNG", transparency=BYTES), COLOUR),
    "palette.gif": (encoded(COLOUR.quantize(), "GIF"), COLOUR),
    "palette of a gif.jpg": (encoded(COLOUR.quantize(), "GIF"), COLOUR),
    "rgb.bmp": (encoded(COLOUR, "BMP"), COLOUR),
    "rgb.tif": (encoded(COLOUR, "TIFF"), COLOUR),
    "cmyk.tif": (encoded(COLOUR.convert("CMYK"), "TIFF"), COLOUR),
    "cmyk.jpg": (encoded(COLOUR.convert("CMYK"), "JPEG", **JPEG), COLOUR),
    "two.mpo": (encoded(COLOUR, "MPO", save_all=True, append_images=[GREY], **JPEG), COLOUR),
    "turned.jpg": (
        encoded(Image.fromarray(CORNERS).rotate(90, expand=True), "JPEG", exif=turned(6), **JPEG),
        Image.fromarray(CORNERS),
    ),
    "turned.png": (
        encoded(Image.fromarray(CORNERS).rotate(90, expand=True), "PNG", exif=turned(6)),
        Image.fromarray(CORNERS),
    ),
    "turned.tif": (
        encoded(Image.fromarray(CORNERS).rotate(90, expand=True), "TIFF", exif=turned(6)),
        Image.fromarray(CORNERS),
    ),
    "mirrored.png": (
        encoded(
            Image.fromarray(CORNERS).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            *("PNG",),
            exif=turned(2),
        ),
        Image.fromarray(CORNERS),
    ),
}


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A source with the mask of an image that is yet to come."""
    source = make_source(tmp_path / "source", ["a"])
    (source / "images" / "a.png").unlink()
    return source


def ingested(params: Folder, out: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """The canonical image of a dataset of one, its pixels, and its mask; hashes are right."""
    download(params, out)
    row = read_samples(out).iloc[0]
    image, mask = read_pixels(out / row["image"]), read_pixels(out / row["mask"])
    measured = read_table(out / "measures.csv").iloc[0]
    assert hashlib.sha256(image.tobytes()).hexdigest() == measured["image_sha256"]
    assert hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest() == row["sha256"]
    assert image.shape[:2] == (row["height"], row["width"]) == mask.shape
    assert row["channels"] == (1 if image.ndim == 2 else image.shape[2])
    return out / row["image"], image, mask


@pytest.mark.parametrize("name", CANONICAL)
def test_a_canonical_image_is_copied(name: str, one: Path, tmp_path: Path) -> None:
    (one / "images" / f"a{Path(name).suffix}").write_bytes(CANONICAL[name])
    path, pixels, _ = ingested(own(one), tmp_path / "out")
    assert path.read_bytes() == CANONICAL[name]
    assert path.suffix == (".jpg" if CANONICAL[name].startswith(b"\xff\xd8") else ".png")
    expected = np.asarray(GREY if name.startswith("grey") else COLOUR)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("name", CONVERTED)
def test_another_image_becomes_png(name: str, one: Path, tmp_path: Path) -> None:
    data, expected = CONVERTED[name]
    (one / "images" / f"a{Path(name).suffix}").write_bytes(data)
    path, pixels, _ = ingested(own(one), tmp_path / "out")
    assert path.name == "a.png"
    with Image.open(path) as written:
        assert (written.format, written.mode) == ("PNG", expected.mode)
        assert written.getexif().get(0x0112, 1) == 1
    assert pixels.shape == np.asarray(expected).shape
    lossless = not data.startswith(b"\xff\xd8")
    difference = np.abs(pixels.astype(int) - np.asarray(expected))
    assert difference.max() == 0 if lossless else difference.mean() < 2


DEEP = np.repeat(np.array([[0, 1000, 2000, 3000, 5000]], np.uint16), 6, 1).repeat(20, 0)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits(format: str, one: Path, tmp_path: Path) -> None:
    Image.fromarray(DEEP).save(one / "images" / "a.png", format)
    with pytest.raises(InputError, match=r"a\.png: more than 8 bits a channel .*the limit is 8;"):
        download(own(one), tmp_path / "out")
    path, pixels, _ = ingested(own(one, value_range=(1000, 3000)), tmp_path / "out")
    assert path.suffix == ".png"
    assert pixels[0, ::6].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("value_range", [None, (0, 4095)])
def test_sixteen_bits_of_colour(
    channels: int, value_range: tuple[int, int] | None, one: Path, tmp_path: Path
) -> None:
    """Pillow would drop the lower eight of them without a word."""
    row = b"\0" + np.full(WIDTH * channels, 0x0123, ">u2").tobytes()
    data = png(WIDTH, HEIGHT, 16, {2: 4, 3: 2, 4: 6}[channels], row * HEIGHT)
    (one / "images" / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png: more than 8 bits a channel .*convert it"):
        download(own(one, value_range=value_range), tmp_path / "out")
    (one / "images" / "a.png").write_bytes(encoded(COLOUR, "PNG"))
    (one / "masks" / "a_mask.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a_mask\.png: more than 8 bits a channel"):
        download(own(one), tmp_path / "out")


def test_eight_bits_are_not_scaled(one: Path, tmp_path: Path) -> None:
    (one / "images" / "a.png").write_bytes(CANONICAL["rgb.png"])
    _, pixels, _ = ingested(own(one, value_range=(1000, 3000)), tmp_path / "out")
    assert (pixels == FLAT).all()


# Forms of masks


def grey_edges(low: int, high: int) -> Image.Image:
    """The truth with grey pixels along an edge."""
    pixels = TRUTH * 255
    pixels[5, 5:20], pixels[4, 5:20] = high, low
    return Image.fromarray(pixels)


def with_palette(indices: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette([level for colour in colours for level in colour])
    return image


ALPHA = Image.fromarray(noise(9)[..., 0])
INDEXED = with_palette(TRUTH, (9, 8, 7), (200, 3, 4))
VALUES: Fields = {"values": {0: 0, 255: 1}}
INDICES: Fields = {"values": {0: 0, 1: 1}}
MASKS: dict[str, tuple[bytes, Fields]] = {
    "grey.png": (encoded(TWO, "PNG"), THRESHOLD),
    "grey values.png": (encoded(TWO, "PNG"), VALUES),
    "inverted.png": (
        encoded(Image.fromarray(255 - TRUTH * 255), "PNG"),
        {**THRESHOLD, "invert": True},
    ),
    "at the threshold.png": (encoded(grey_edges(127, 128), "PNG"), THRESHOLD),
    "another threshold.png": (
        encoded(grey_edges(199, 200), "PNG"),
        {"threshold": 200, "invert": False},
    ),
    "edges.jpg": (encoded(TWO, "JPEG", **JPEG), THRESHOLD),
    "1bit.png": (encoded(TWO.convert("1"), "PNG"), THRESHOLD),
    "1bit values.png": (encoded(TWO.convert("1"), "PNG"), VALUES),
    "1bit.bmp": (encoded(TWO.convert("1"), "BMP"), THRESHOLD),
    "1bit.tif": (encoded(TWO.convert("1"), "TIFF", compression="group4"), THRESHOLD),
    "rgb.png": (encoded(TWO.convert("RGB"), "PNG"), THRESHOLD),
    "rgb values.png": (encoded(TWO.convert("RGB"), "PNG"), VALUES),
    "rgba.png": (encoded(Image.merge("RGBA", (TWO, TWO, TWO, ALPHA)), "PNG"), THRESHOLD),
    "rgba values.png": (encoded(Image.merge("RGBA", (TWO, TWO, TWO, ALPHA)), "PNG"), VALUES),
    "rgba colours.png": (
        encoded(Image.merge("RGBA", (TWO, TWO, TWO, ALPHA)), "PNG"),
        {"colours": {"#000000": 0, "#ffffff": 1}},
    ),
    "la.png": (encoded(Image.merge("LA", (TWO, ALPHA)), "PNG"), THRESHOLD),
    "cmyk.jpg": (encoded(TWO.convert("CMYK"), "JPEG", **JPEG), THRESHOLD),
    "cmyk.tif": (encoded(TWO.convert("CMYK"), "TIFF"), THRESHOLD),
    "palette.png": (encoded(INDEXED, "PNG"), INDICES),
    "palette.gif": (encoded(INDEXED, "GIF"), INDICES),
    "palette colours.png": (
        encoded(INDEXED, "PNG"),
        {"colours": {"#090807": 0, "#c80304": 1}},
    ),
    "transparent palette.png": (encoded(INDEXED, "PNG", transparency=BYTES), INDICES),
    "transparent palette colours.png": (
        encoded(INDEXED, "PNG", transparency=BYTES),
        {"colours": {"#090807": 0, "#c80304": 1}},
    ),
    "turned.png": (
        encoded(TWO.rotate(90, expand=True), "PNG", exif=turned(6)),
        THRESHOLD,
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, source: Path, tmp_path: Path) -> None:
    data, decode = MASKS[name]
    for path in [*(source / "masks").iterdir()]:
        path.unlink()
        path.with_suffix(Path(name).suffix).write_bytes(data)
    _, _, mask = ingested(own(source, mask=decode), tmp_path / "out")
    assert (mask == TRUTH).all()
    with Image.open(tmp_path / "out" / "masks" / "p1_a.png") as written:
        assert (written.format, written.mode) == ("PNG", "L")


CLASSES = ["background", "one", "two"]


def test_masks_by_values_and_by_colours(one: Path, tmp_path: Path) -> None:
    """Class id 255 is ignored."""
    (one / "images" / "a.png").write_bytes(CANONICAL["rgb.png"])
    values = np.tile(np.array([7, 100, 200, 50, 100], np.uint8), (HEIGHT, WIDTH // 5))
    truth = np.tile(np.array([0, 1, 2, 255, 1], np.uint8), (HEIGHT, WIDTH // 5))
    Image.fromarray(values).save(one / "masks" / "a_mask.png")
    decode = {"values": {7: 0, 100: 1, 200: 2, 50: 255, 99: 2}}
    _, _, mask = ingested(own(one, mask=decode, classes=CLASSES, background=0), tmp_path / "out")
    assert (mask == truth).all()
    measured = read_table(tmp_path / "out" / "measures.csv").iloc[0]
    assert measured["ignored"] == pytest.approx(0.2)
    assert measured["foreground"] == pytest.approx(0.75)
    assert measured["mask_values"] == 4
    palette = np.zeros((256, 3), np.uint8)
    palette[[7, 100, 200, 50]] = [[0, 0, 1], [255, 0, 0], [0, 255, 0], [255, 255, 255]]
    Image.fromarray(palette[values]).save(one / "masks" / "a_mask.png")
    colours = {"#000001": 0, "#ff0000": 1, "#00ff00": 2, "#ffffff": 255}
    params = own(one, mask={"colours": colours}, classes=CLASSES, background=0)
    _, _, mask = ingested(params, tmp_path / "out")
    assert (mask == truth).all()
    del colours["#00ff00"]
    with pytest.raises(InputError, match=r"holds the undefined colour #00ff00, 3 are defined;"):
        download(own(one, mask={"colours": colours}), tmp_path / "out")


def test_values_of_a_mask_are_measured(one: Path, tmp_path: Path) -> None:
    (one / "images" / "a.png").write_bytes(CANONICAL["rgb.png"])
    (one / "masks" / "a_mask.png").write_bytes(encoded(grey_edges(100, 150), "PNG"))
    download(own(one, mask=THRESHOLD), tmp_path / "out")
    measured = read_table(tmp_path / "out" / "measures.csv").iloc[0]
    assert measured["mask_values"] == 4
    assert measured["mask_between"] == pytest.approx(30 / 600, abs=1e-6)
    assert measured["mask_resized"] == 0


def test_a_mask_of_one_value_has_none_between(source: Path, tmp_path: Path) -> None:
    Image.new("L", (WIDTH, HEIGHT)).save(source / "masks" / "p1_b_mask.png")
    download(own(source), tmp_path / "out")
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert list(measures["mask_values"]) == [2, 1, 2]
    assert list(measures["mask_between"]) == [0, 0, 0]
    assert list(measures["foreground"] > 0) == [True, False, True]


PHOTOGRAPH = Image.fromarray(np.linspace(0, 255, 600).astype(np.uint8).reshape(20, 30))
OTHER_MASKS: dict[str, tuple[Image.Image, Fields, str]] = {
    "a photograph": (
        PHOTOGRAPH,
        THRESHOLD,
        r"7\d % of the mask's pixels are neither dark nor bright, at most 20 % .* photograph",
    ),
    "a photograph in colours": (Image.fromarray(noise(0)), THRESHOLD, "a mask in colours, but"),
    "a photograph for values": (PHOTOGRAPH, VALUES, r"holds the values \[1, 2, .*another dataset"),
    "class ids": (
        Image.fromarray(TRUTH * 3),
        THRESHOLD,
        "values up to 3 only, all below the threshold 128; are they class ids",
    ),
    "class ids, inverted": (
        Image.fromarray(TRUTH * 3),
        {**THRESHOLD, "invert": True},
        "values up to 3 only, all below the threshold 128; are they class ids",
    ),
    "a value too many": (Image.fromarray(TRUTH * 7), VALUES, r"holds the values \[7\], but \[0, 2"),
    "palette in colours": (
        INDEXED,
        THRESHOLD,
        "its palette is in colours, #090807, #c80304, but a threshold .*use dataset.mask.colours",
    ),
    "colours": (
        Image.new("RGB", (30, 20), (255, 0, 0)),
        VALUES,
        r"a mask in colours, .*; convert it or use dataset\.mask\.colours",
    ),
    "another colour": (
        Image.new("RGB", (30, 20), (255, 0, 1)),
        {"colours": {"#000000": 0, "#ff0000": 1}},
        r"the undefined colour #ff0001, 2 are defined; define it in dataset\.mask\.colours",
    ),
    "16 bits": (Image.fromarray(DEEP), THRESHOLD, "a mask of more than 8 bits .*; convert it"),
    "another size": (TWO.resize((32, 20)), THRESHOLD, "its mask is 32x20 but the image is 30x20"),
    "another class": (
        Image.fromarray(TRUTH * 255),
        {"values": {0: 0, 255: 2}},
        r"its mask holds the class ids \[2\], the dataset defines 0 to 1",
    ),
    "nothing": (
        Image.new("L", (30, 20)),
        THRESHOLD,
        r"mine: no mask holds the class crack; every class must occur, .*threshold above",
    ),
}


@pytest.mark.parametrize("name", OTHER_MASKS)
def test_a_mask_of_another_dataset(name: str, one: Path, tmp_path: Path) -> None:
    image, decode, said = OTHER_MASKS[name]
    (one / "images" / "a.png").write_bytes(CANONICAL["rgb.png"])
    image.save(one / "masks" / "a_mask.png")
    with pytest.raises(InputError, match=said) as caught:
        download(own(one, mask=decode), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


# Sizes


def test_a_mask_of_nearly_the_size_is_resized(source: Path, tmp_path: Path) -> None:
    larger = cv2.resize(TRUTH * 255, (WIDTH + 2, HEIGHT - 1), interpolation=cv2.INTER_NEAREST)
    larger[:, -2:] = 50  # ignored
    decode = {"values": {0: 0, 255: 1, 50: 255}}
    Image.fromarray(larger).save(source / "masks" / "p1_b_mask.png")
    with pytest.raises(InputError, match=r"its mask is 32x19 but .* allows 1 pixels, fix"):
        download(own(source, {"size_difference": 1}, mask=decode), tmp_path / "out")
    download(own(source, {"size_difference": 2}, mask=decode), tmp_path / "out")
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert list(measures["mask_resized"]) == [0, 1, 0]
    mask = read_pixels(tmp_path / "out" / "masks" / "p1_b.png")
    assert mask.shape == TRUTH.shape
    assert set(np.unique(mask)) == {0, 1, 255}
    inner = cv2.erode(TRUTH, np.ones((3, 3)))
    outer = cv2.dilate(TRUTH, np.ones((3, 3)))
    assert (inner <= mask).all()
    assert (mask[:, :-3] <= outer[:, :-3]).all()


@pytest.mark.parametrize("size", [(HEIGHT + 3, WIDTH - 3), (HEIGHT - 3, WIDTH + 1)])
def test_a_mask_of_nearly_the_size_keeps_its_classes_and_its_place(
    size: tuple[int, int], source: Path, tmp_path: Path
) -> None:
    mask = stripes(*size)
    Image.fromarray(mask).save(source / "masks" / "p1_b_mask.png")
    values = {"values": {0: 0, 1: 1, 3: 3, 255: 255}}
    classes = ["background", "one", "two", "three"]
    for id in ("p1_a", "p2_a"):
        every = np.resize(np.array([1, 2, 3], np.uint8), (HEIGHT, WIDTH))
        Image.fromarray(every).save(source / "masks" / f"{id}_mask.png")
    values["values"][2] = 2
    download(
        own(source, {"size_difference": 3}, mask=values, classes=classes, background=0),
        tmp_path / "out",
    )
    found = read_pixels(tmp_path / "out" / "masks" / "p1_b.png")
    assert (found == nearest(mask, HEIGHT, WIDTH)).all()


def test_an_image_and_its_mask_turned_apart(source: Path, tmp_path: Path) -> None:
    """Torn pairs are no matter of some pixels."""
    TWO.rotate(90, expand=True).save(source / "masks" / "p1_b_mask.png")
    with pytest.raises(InputError, match="its mask is 20x30 but the image is 30x20"):
        download(own(source, {"size_difference": 9}), tmp_path / "out")


@pytest.mark.parametrize("name", ["images/p1_b.png", "masks/p1_b_mask.png"])
def test_a_huge_image_is_refused_by_its_header(name: str, source: Path, tmp_path: Path) -> None:
    """It would take 6 GB; the message is not that of its missing data."""
    (source / name).write_bytes(png(40_000, 40_000, 8, 2, b""))
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"{name}: 40000x40000 pixels, .*allows 50 million; cut"):
        download(own(source), tmp_path / "out")
    assert time.monotonic() - started < 2
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_limit_of_pixels(source: Path, tmp_path: Path) -> None:
    download(own(source, {"megapixels": 600e-6}), tmp_path / "out")
    with pytest.raises(InputError, match=r"30x20 pixels, .*megapixels allows 0\.000599"):
        download(own(source, {"megapixels": 599e-6}), tmp_path / "out")


def taller_png(data: bytes) -> bytes:
    header = bytearray(data[16:29])
    header[4:8] = struct.pack(">I", 2 * HEIGHT)
    return data[:8] + chunk(b"IHDR", bytes(header)) + data[33:]


def taller_jpeg(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">H", 2 * HEIGHT) + data[at + 2 :]


SQUARE = encoded(COLOUR.resize((32, 32)), "PNG")


def icns(data: bytes) -> bytes:
    """An icon whose kind stands for 128x128."""
    body = b"ic07" + struct.pack(">I", len(data) + 8) + data
    return b"icns" + struct.pack(">I", len(body) + 8) + body


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (taller_png(CANONICAL["rgb.png"]), "its mask is 30x20 but the image is 30x40"),
        (taller_jpeg(CANONICAL["rgb.jpg"]), "its mask is 30x20 but the image is 30x40"),
        (icns(SQUARE), "decodes to 32x32 but its header says 128x128; replace the file"),
        (encoded(COLOUR, "ICNS"), "its mask is 30x20 but the image is"),
        (encoded(COLOUR, "BMP")[:-30], "unreadable as an image (image file is truncated"),
        (encoded(COLOUR, "TIFF")[:-30], "unreadable as an image ("),
        (encoded(COLOUR, "GIF")[:-20], "unreadable as an image (image file is truncated"),
        (CANONICAL["rgb.png"][:-30], "unreadable as an image (image file is truncated"),
        (CANONICAL["rgb.jpg"][:-30], "unreadable as an image (image file is truncated"),
        (CANONICAL["rgb.png"][:60], "unreadable as an image ("),
        (CANONICAL["rgb.png"][:20], "unreadable as an image ("),
        (png(0, HEIGHT, 8, 2, b"\0" * HEIGHT), "unreadable as an image (of no known format)"),
        (b"DDS \x7c" + bytes(123), "unreadable as an image (Unknown pixel format flags 0)"),
        (b"", "unreadable as an image (of no known format)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "(of no known format); replace the"),
    ],
)
def test_a_file_that_is_not_what_its_header_says(
    data: bytes, said: str, one: Path, tmp_path: Path
) -> None:
    (one / "images" / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        download(own(one), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


# Bad pairs


def remove(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def corrupt(path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:60])


def dangling(folder: Path) -> None:
    (folder / "images" / "p1_a.png").unlink()
    (folder / "images" / "p1_a.png").symlink_to(folder / "not there")


def resized(folder: Path) -> None:
    path = folder / "masks" / "p1_b_mask.png"
    with Image.open(path) as image:
        image.resize((32, 20), Image.Resampling.NEAREST).save(path)


def emptied(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (remove("masks/p1_a_mask.png"), r"p1_a\.png: image without mask .*; add the mask"),
        (remove("images/p2_a.png"), r"p2_a_mask\.png: mask without image .*; add the image"),
        (corrupt("images/p1_b.png"), r"p1_b\.png: unreadable as an image .*; replace the file"),
        (corrupt("masks/p1_b_mask.png"), r"p1_b_mask\.png: unreadable as an image"),
        (dangling, r"p1_a\.png: gone, or a link to nothing; fetch what it points to or take"),
        (resized, r"p1_b\.png: its mask is 32x20 but the image is 30x20; .* fix the pair"),
        (emptied, r"no file matches 'images/\{id\}\.\*' or .*; at least one pair is needed"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    spoil: Callable[[Path], object], said: str, source: Path, tmp_path: Path
) -> None:
    spoil(source)
    with pytest.raises(InputError, match=said) as caught:
        download(own(source), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_bad_pairs_are_left_out_where_one_says_so(source: Path, tmp_path: Path) -> None:
    resized(source)
    (source / "images" / "p2_a.png").write_bytes(b"not an image")
    params = own(source, {"on_bad_pair": "skip"}, group={"pattern": "^(p.)"})
    said = download(params, tmp_path / "out")
    assert said.startswith("1 images with masks of mine, 2 left out (see skipped.csv there) in ")
    samples = read_samples(tmp_path / "out")
    assert list(samples["id"]) == ["p1_a"]
    assert len(read_thumbnails(tmp_path / "out")) == 1
    reasons = pd.read_csv(tmp_path / "out" / "skipped.csv")["reason"]
    assert [Path(reason.split(": ")[0]).name for reason in reasons] == ["p1_b.png", "p2_a.png"]
    assert "its mask is 32x20" in reasons[0]
    kept = {"images/p1_a.png", "masks/p1_a.png"}
    assert {name for name in snapshot(tmp_path / "out") if "/" in name} == kept
    # The same input gives the same output, byte for byte.
    download(params, tmp_path / "again")
    assert snapshot(tmp_path / "again") == snapshot(tmp_path / "out")


def test_nothing_but_bad_pairs(source: Path, tmp_path: Path) -> None:
    for path in (source / "images").iterdir():
        path.write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"mine: found no samples \(3 skipped\); at least one"):
        download(own(source, {"on_bad_pair": "skip"}), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_failed_download_leaves_the_former_one_as_it_was(source: Path, tmp_path: Path) -> None:
    download(own(source), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    resized(source)
    with pytest.raises(InputError):
        download(own(source), tmp_path / "out")
    assert snapshot(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": "images/*.png"}, "needs {id} exactly once"),
        ({"masks": "{id}/{id}.png"}, "needs {id} exactly once"),
        ({"source": "/nowhere"}, "dataset.source: nothing at /nowhere; set it to a folder"),
    ],
)
def test_bad_settings(changes: Fields, said: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        download(own(source, **changes), tmp_path / "out")
    assert said in str(caught.value)


# What a machine does


def test_a_source_that_may_only_be_read(source: Path, tmp_path: Path) -> None:
    paths = [source, *source.rglob("*")]
    before = snapshot(source)
    for path in reversed(paths):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        download(own(source), tmp_path / "out")
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert all(path.stat().st_mode & stat.S_IWUSR for path in (tmp_path / "out").rglob("*"))
    assert snapshot(source) == before
    shutil.rmtree(tmp_path / "out")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A source of three images of 120 kB."""
    return make_source(tmp_path / "large", "abc", 200, 200)


@contextmanager
def no_large_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_too_large_to_write(source: Path, large: Path, tmp_path: Path) -> None:
    download(own(source), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    for target in ("out", "new"):
        with no_large_files(), pytest.raises(OSError, match="File too large"):
            download(own(large), tmp_path / target)
    assert snapshot(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"source", "large", "out"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "segbench-test", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs a file system of its own")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(source: Path, large: Path, small_disk: Path) -> None:
    download(own(source), small_disk / "out")
    before = snapshot(small_disk / "out")
    for target in ("out", "new"):
        with pytest.raises(OSError, match="No space left on device"):
            download(own(large), small_disk / target)
    assert snapshot(small_disk / "out") == before
    assert [path.name for path in small_disk.iterdir()] == ["out"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Also where the tests run in the background, which ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_download_leaves_nothing_behind(tmp_path: Path) -> None:
    main = threading.main_thread().ident
    assert main is not None
    begun = []

    def read(at: int) -> list[Sample]:
        begun.append(at)
        if at == 20:
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.005)
        return [Sample(f"{at:03d}", noise(at), TRUTH, f"{at}", "", f"{at}.png")]

    tasks = [SampleReader(1, lambda at=at: read(at)) for at in range(400)]  # type: ignore[misc]
    download(polyps(num_sequences=1), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    for target in ("out", "new"):
        with pytest.raises(KeyboardInterrupt):
            ingest(tasks, synthetic_polyps.INFO, "skip", tmp_path / target)
    assert snapshot(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(begun) < 200  # what was waiting is given up


# CVC-ClinicDB


def test_cvc_sequences_cover_all_frames() -> None:
    numbers = [cvc_clinicdb.sequence_of(frame) for frame in range(1, 613)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 30))


@pytest.mark.skipif(not (SHARED / "datasets").exists(), reason="needs the real frames")
def test_cvc_on_the_real_frames(tmp_path: Path) -> None:
    source = SHARED / "datasets" / "cvc-clinicdb"
    fields = {"name": "cvc-clinicdb", "source": str(source), "watch": True}
    fields |= {"checksums": {}, "limits": LIMITS}
    said = download(Published.model_validate(fields), tmp_path / "out")
    assert said.startswith("612 images with masks of cvc-clinicdb in ")
    samples = read_samples(tmp_path / "out")
    assert samples["group"].nunique() == 29
    table = (source / "sequences.csv").read_text().split()[1:]
    named = {
        f"{int(frame):03d}": f"seq{int(number):02d}"
        for frame, number in (line.split(",") for line in table)
    }
    assert dict(zip(samples["id"], samples["group"], strict=True)) == named
    assert not read_info(tmp_path / "out").redistributable
    # Its masks are known to have grey edges, few of them.
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert measures["mask_between"].mean() == pytest.approx(0.0013, abs=1e-4)
    assert not measures["mask_resized"].any()
    low, high = read_info(tmp_path / "out").foreground
    assert low < measures["foreground"].mean() < high
