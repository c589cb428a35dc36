"""Each published dataset of the catalogue, on small files in its own format and layout."""

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import TypeAdapter
from sklearn.model_selection import train_test_split

from segbench.datasets.canonical import DatasetInfo, read_info, read_samples, read_table
from segbench.datasets.download import download, source_of
from segbench.datasets.sources.cvc_clinicdb import published_split
from segbench.errors import InputError
from segbench.images import read_pixels
from segbench.params.datasets import Dataset, Folder, catalogue
from support.params import ROOT, SHARED, read_params

Fields = dict[str, Any]
LIMITS: Fields = {"megapixels": 50, "unpacked_gib": 1, "size_difference": 0, "on_bad_pair": "error"}
CHOICES: dict[str, Fields] = {
    "cvc-clinicdb": {},
    "oxford-iiit-pet": {"task": "trimap", "border": None},
    "isbi-2012": {"slices_per_block": 5},
}
# Read as folders, by what these recipes say of them.
RECIPES = {"flood-area": "flood-vgg19", "hgr1": "hgr1-resnet50"}
JPEG: Fields = {"quality": 95, "subsampling": 0}


def published(
    name: str, source: Path | str | None, limits: Fields | None = None, **fields: object
) -> Dataset:
    if name in RECIPES:
        tree = read_params(ROOT / "recipes" / f"{RECIPES[name]}.yaml")["dataset"]
        tree.update(source=str(source), limits={**LIMITS, **(limits or {})})
        return Folder.model_validate(tree)
    tree = {
        "name": name,
        "source": None if source is None else str(source),
        "watch": True,
        "checksums": {},
        "limits": {**LIMITS, **(limits or {})},
        **CHOICES[name],
        **fields,
    }
    adapter: TypeAdapter[Dataset] = TypeAdapter(Dataset)
    return adapter.validate_python(tree)


def info_of(name: str) -> DatasetInfo:
    params = published(name, None)
    found: DatasetInfo = source_of(params.name).info(params)
    return found


def noise(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Blurred, so that a lossy format keeps it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(pixels, (0, 0), 3)


def disc(height: int = 24, width: int = 32) -> np.ndarray:
    """The truth of every binary mask here: 1 in a disc, 0 around it."""
    return cv2.circle(np.zeros((height, width), np.uint8), (14, 12), 7, 1, -1)


def grey_edges(height: int = 24, width: int = 32) -> Image.Image:
    """The disc in 0 and 255, whose edge is grey on both sides."""
    truth, cross = disc(height, width), np.ones((3, 3), np.uint8)
    levels = cv2.dilate(truth, cross) * 60 + truth * 140 + cv2.erode(truth, cross) * 55
    return Image.fromarray(levels.astype(np.uint8))


def put(path: Path, image: Image.Image, format: str | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format, **options)


def put_noise(path: Path, seed: int, height: int = 24, width: int = 32) -> None:
    put(path, Image.fromarray(noise(seed, height, width)))


def masks_of(folder: Path) -> dict[str, np.ndarray]:
    samples = read_samples(folder)
    pairs = zip(samples["id"], samples["mask"], strict=True)
    return {id: read_pixels(folder / name) for id, name in pairs}


# What holds for all.


def test_the_catalogue_is_the_folder() -> None:
    assert {*catalogue()} == {*CHOICES, "folder", "synthetic-polyps"}


@pytest.mark.parametrize("name", [*CHOICES, *RECIPES])
def test_what_is_known_of_a_dataset(name: str) -> None:
    info = info_of(name)
    assert info.name == name
    assert info.licence
    assert info.citation
    assert info.published > 0
    assert not info.redistributable
    assert len(info.classes) > 1
    low, high = info.foreground
    assert 0 <= low < high < 1


@pytest.mark.parametrize("name", CHOICES)
def test_archives(name: str) -> None:
    archives = source_of(name).ARCHIVES
    assert archives
    assert len({archive.name for archive in archives}) == len(archives)
    for archive in archives:
        assert archive.page.startswith("https://")
        assert all(re.match("https?://", url) for url in archive.urls)
        assert archive.checksum is None or re.match("md5:|sha256:", archive.checksum)
        # No address was ever tried by the authors; whoever tries one says so here.
        assert not archive.tried


@pytest.mark.parametrize(
    "name", [name for name in CHOICES if not any(one.urls for one in source_of(name).ARCHIVES)]
)
def test_what_needs_a_login_says_where_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    archive = source_of(name).ARCHIVES[0]
    with pytest.raises(InputError) as caught:
        download(published(name, None), tmp_path / "out")
    said = str(caught.value)
    assert f"{archive.name}: cannot be fetched without a login; get it from {archive.page}" in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


# Small copies of the layouts


def make_cvc(folder: Path, suffix: str = "png", frames: tuple[int, ...] = (1, 25, 26, 612)) -> None:
    """Masks are RGB with equal channels and a few grey pixels at the edges."""
    for frame in frames:
        put_noise(folder / "Original" / f"{frame}.{suffix}", frame)
        put(folder / "Ground Truth" / f"{frame}.{suffix}", grey_edges().convert("RGB"))


# By file format and mode; the place in the table is the seed, and gives the size.
PETS: dict[str, tuple[str, str]] = {
    "Abyssinian_1": ("JPEG", "RGB"),
    "Abyssinian_2": ("PNG", "RGBA"),
    "Egyptian_Mau_14": ("GIF", "P"),
    "american_bulldog_7": ("JPEG", "L"),
    "american_bulldog_10": ("JPEG", "CMYK"),
    "staffordshire_bull_terrier_2": ("JPEG", "RGB"),
    "unlisted_1": ("JPEG", "RGB"),
}
LISTED = [*PETS][:-1]


def pet(id: str) -> tuple[np.ndarray, np.ndarray]:
    """A photograph and its trimap: 1 pet, 2 background, 3 border."""
    seed = [*PETS].index(id)
    height, width = 24 + seed, 32 + 2 * seed
    truth = disc(height, width)
    border = cv2.dilate(truth, np.ones((3, 3))) - truth
    return noise(seed, height, width), np.where(border > 0, 3, 2 - truth).astype(np.uint8)


def make_pets(folder: Path) -> None:
    """All photographs are named .jpg, whatever they are; the lists leave one out."""
    for id, (format, mode) in PETS.items():
        pixels, trimap = pet(id)
        put(folder / "images" / f"{id}.jpg", Image.fromarray(pixels).convert(mode), format)
        put(folder / "annotations" / "trimaps" / f"{id}.png", Image.fromarray(trimap))
        (folder / "annotations" / "trimaps" / f"._{id}.png").write_bytes(b"\0\5\26\7")
    (folder / "images" / "Abyssinian_100.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    (folder / "images" / "._Abyssinian_1.jpg").write_bytes(b"\0\5\26\7")
    (folder / "annotations" / "xmls").mkdir()
    (folder / "annotations" / "xmls" / "Abyssinian_1.xml").write_text("<annotation/>\n")
    # id, class, species, breed
    (folder / "annotations" / "trainval.txt").write_text(
        "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\nEgyptian_Mau_14 10 1 6\n"
        "american_bulldog_10 2 2 1\n"
    )
    (folder / "annotations" / "test.txt").write_text(
        "Abyssinian_2 1 1 1\namerican_bulldog_7 2 2 1\nstaffordshire_bull_terrier_2 35 2 23\n"
        "lost_1 9 9 9\n"
    )


def make_stacks(folder: Path, pages: int = 7, labels: int | None = None) -> None:
    """Membranes, the disc, are black."""
    images = [Image.fromarray(noise(page)[..., 0]) for page in range(pages)]
    mask = Image.fromarray(255 - disc() * 255)
    folder.mkdir(parents=True, exist_ok=True)
    volume, truth = folder / "train-volume.tif", folder / "train-labels.tif"
    images[0].save(volume, save_all=True, append_images=images[1:])
    mask.save(truth, save_all=True, append_images=[mask] * ((labels or pages) - 1))
    images[0].save(folder / "test-volume.tif", save_all=True, append_images=images[1:])


def make_slices(folder: Path, numbers: tuple[int, ...] = (*range(7), 8, 10)) -> None:
    for number in numbers:
        put(folder / "image" / f"{number}.png", Image.fromarray(noise(number)[..., 0]))
        put(folder / "label" / f"{number}.png", Image.fromarray(255 - disc() * 255))


def make_floods(folder: Path) -> None:
    for id, (height, width) in {"0": (24, 32), "1": (40, 30), "2": (30, 36), "3": (28, 28)}.items():
        put_noise(folder / "Image" / f"{id}.jpg", int(id), height, width)
        if id == "1":  # a mask that is lossy itself
            put(folder / "Mask" / f"{id}.jpg", grey_edges(height, width), **JPEG)
        elif id == "2":  # a mask of nearly the size
            put(folder / "Mask" / f"{id}.png", grey_edges(height + 1, width - 2))
        else:
            put(folder / "Mask" / f"{id}.png", grey_edges(height, width))


HANDS = ("A_P_hgr1_id01_1", "A_P_hgr1_id02_1", "1_P_hgr1_id01_2", "B_X_hgr1_id12_3")


def make_hands(folder: Path) -> None:
    """Hands are black; the alpha of one mask means nothing."""
    inverted = Image.fromarray(255 - disc() * 255)
    alpha = Image.fromarray(noise(3)[..., 0])
    for seed, id in enumerate(HANDS):
        suffix = "JPG" if seed == 1 else "jpg"
        put_noise(folder / "original_images" / f"{id}.{suffix}", seed)
        if seed == 2:
            mask = Image.merge("RGBA", (inverted, inverted, inverted, alpha))
            put(folder / "skin_masks" / f"{id}.png", mask)
        else:
            put(folder / "skin_masks" / f"{id}.bmp", inverted.convert("1"))


LAYOUTS: dict[str, tuple[Callable[[Path], None], int]] = {
    "cvc-clinicdb": (make_cvc, 4),
    "oxford-iiit-pet": (make_pets, 6),
    "isbi-2012": (make_stacks, 7),
    "flood-area": (make_floods, 4),
    "hgr1": (make_hands, 4),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_archive_gives_what_its_folder_gives(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However deep the files lie in it."""
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    make, number = LAYOUTS[name]
    make(tmp_path / "source" / "deep")
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        for path in (tmp_path / "source").rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path / "source"))
    limits: Fields = {"size_difference": 2}
    said = download(published(name, tmp_path / "source.zip", limits), tmp_path / "zip")
    of = info_of(name).published
    assert said == f"{number} of {of} published images with masks of {name} in {tmp_path / 'zip'}"
    download(published(name, tmp_path / "source", limits), tmp_path / "folder")
    assert len(read_samples(tmp_path / "folder")) == number
    for file in ("samples.csv", "measures.csv", "thumbnails.u8", "dataset.json"):
        assert (tmp_path / "zip" / file).read_bytes() == (tmp_path / "folder" / file).read_bytes()
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"source", "source.zip", "cache", "zip", "folder"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_of_something_else(name: str, tmp_path: Path) -> None:
    put_noise(tmp_path / "source" / "pictures" / "1.png", 0)
    with pytest.raises(InputError, match=r"no file matches '.*' or '.*'; at least") as caught:
        download(published(name, tmp_path / "source"), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


FOREIGN = {
    "cvc-clinicdb": [
        (
            "Original/613.png",
            "Ground Truth/613.png",
            "not a frame of CVC-ClinicDB, which are named",
        ),
        ("Original/0.png", "Ground Truth/0.png", "not a frame of CVC-ClinicDB, which are named"),
        ("Original/a1.png", "Ground Truth/a1.png", "not a frame of CVC-ClinicDB, which are named"),
        ("Original/²5.png", "Ground Truth/²5.png", "not a frame of CVC-ClinicDB, which are named"),
    ],
    "oxford-iiit-pet": [
        ("images/cat.jpg", "annotations/trimaps/cat.png", "not named <breed>_<number>, as the"),
        ("images/_1.jpg", "annotations/trimaps/_1.png", "not named <breed>_<number>, as the"),
    ],
    "isbi-2012": [
        (
            "image/a.png",
            "label/a.png",
            "not a slice of ISBI 2012, which are named by their numbers",
        ),
        ("image/-1.png", "label/-1.png", "not a slice of ISBI 2012, which are named by their nu"),
    ],
}
SINGLE: dict[str, Callable[[Path], None]] = {
    **{name: make for name, (make, _) in LAYOUTS.items()},
    "isbi-2012": make_slices,
}


@pytest.mark.parametrize(
    ("name", "image", "mask", "said"),
    [(name, *names) for name, several in FOREIGN.items() for names in several],
)
def test_a_foreign_name(name: str, image: str, mask: str, said: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    SINGLE[name](source)
    for path in source.rglob("*.txt"):
        path.unlink()
    put_noise(source / image, 50)
    put(source / mask, grey_edges())
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        download(published(name, source), tmp_path / "out")
    assert str(caught.value).startswith(f"{source / image}: ")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


# CVC-ClinicDB


def test_the_published_split_of_cvc() -> None:
    """490 / 61 / 61 by two draws of scikit-learn from the sorted file names, seed 42."""
    split = published_split()
    names = sorted(f"{frame}.png" for frame in range(1, 613))
    rest, val = train_test_split(names, test_size=61, random_state=42)
    train, test = train_test_split(rest, test_size=61, random_state=42)
    for part, expected in (("train", train), ("val", val), ("test", test)):
        assert {f"{frame}.png" for frame, name in split.items() if name == part} == set(expected)
    assert (len(train), len(val), len(test)) == (490, 61, 61)
    assert len(split) == 612


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_cvc(suffix: str, tmp_path: Path) -> None:
    make_cvc(tmp_path / "CVC-ClinicDB", suffix)
    download(published("cvc-clinicdb", tmp_path / "CVC-ClinicDB"), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert list(samples["id"]) == ["001", "025", "026", "612"]
    assert list(samples["group"]) == ["seq01", "seq01", "seq02", "seq29"]
    assert (read_pixels(tmp_path / "out" / samples["image"][2]) == noise(26)).all()
    for mask in masks_of(tmp_path / "out").values():
        assert (mask == disc()).all()
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert (measures["mask_values"] > 2).all()
    assert (measures["mask_between"] > 0).all()


def test_a_frame_twice(tmp_path: Path) -> None:
    make_cvc(tmp_path / "cvc")
    for folder in ("Original", "Ground Truth"):
        shutil.copy(tmp_path / "cvc" / folder / "25.png", tmp_path / "cvc" / folder / "025.png")
    with pytest.raises(InputError, match=r"25\.png: the id '025' is taken; ids must be unique"):
        download(published("cvc-clinicdb", tmp_path / "cvc"), tmp_path / "out")


# Oxford-IIIT Pet


def test_pets_as_trimaps(tmp_path: Path) -> None:
    make_pets(tmp_path / "pets")
    download(published("oxford-iiit-pet", tmp_path / "pets"), tmp_path / "out")
    samples = read_samples(tmp_path / "out").set_index("id")
    assert set(samples.index) == set(LISTED)  # what no list names is left out
    assert samples["stratum"].to_dict() == {
        "Abyssinian_1": "Abyssinian",
        "Abyssinian_2": "Abyssinian",
        "Egyptian_Mau_14": "Egyptian_Mau",
        "american_bulldog_7": "american_bulldog",
        "american_bulldog_10": "american_bulldog",
        "staffordshire_bull_terrier_2": "staffordshire_bull_terrier",
    }
    assert samples["split"].to_dict() == {
        "Abyssinian_1": "train",
        "Abyssinian_2": "test",
        "Egyptian_Mau_14": "train",
        "american_bulldog_7": "test",
        "american_bulldog_10": "train",
        "staffordshire_bull_terrier_2": "test",
    }
    assert (samples["group"] == samples.index).all()
    for id, name in zip(samples.index, samples["image"], strict=True):
        copied = PETS[id] in (("JPEG", "RGB"), ("JPEG", "L"))
        assert name == f"images/{id}.{'jpg' if copied else 'png'}"
    assert samples["channels"]["american_bulldog_7"] == 1
    assert (samples["channels"].drop("american_bulldog_7") == 3).all()
    for id, name in zip(samples.index, samples["image"], strict=True):
        pixels = read_pixels(tmp_path / "out" / name)
        expected = Image.fromarray(pet(id)[0]).convert(PETS[id][1])
        expected = expected.convert("L" if expected.mode == "L" else "RGB")
        assert np.abs(pixels.astype(int) - np.asarray(expected)).mean() < 4
    classes = np.array([9, 1, 0, 2])  # of pet 1, background 2, border 3
    for id, mask in masks_of(tmp_path / "out").items():
        assert (mask == classes[pet(id)[1]]).all()
    assert read_info(tmp_path / "out").classes == ("background", "pet", "border")


@pytest.mark.parametrize(("border", "class_id"), [("ignored", 255), ("pet", 1), ("background", 0)])
def test_pets_against_the_rest(border: str, class_id: int, tmp_path: Path) -> None:
    make_pets(tmp_path / "pets")
    params = published("oxford-iiit-pet", tmp_path / "pets", task="binary", border=border)
    download(params, tmp_path / "out")
    classes = np.array([9, 1, 0, class_id])
    for id, mask in masks_of(tmp_path / "out").items():
        assert (mask == classes[pet(id)[1]]).all()
    assert read_info(tmp_path / "out").classes == ("background", "pet")
    ignored = read_table(tmp_path / "out" / "measures.csv")["ignored"]
    assert (ignored > 0).all() if border == "ignored" else (ignored == 0).all()


def test_pets_without_lists(tmp_path: Path) -> None:
    make_pets(tmp_path / "pets")
    for path in (tmp_path / "pets" / "annotations").glob("*.txt"):
        path.unlink()
    download(published("oxford-iiit-pet", tmp_path / "pets"), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert set(samples["id"]) == set(PETS)
    assert (samples["split"] == "").all()


# ISBI 2012


def test_slices_of_stacks(tmp_path: Path) -> None:
    make_stacks(tmp_path / "isbi")
    download(published("isbi-2012", tmp_path / "isbi", slices_per_block=3), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert list(samples["id"]) == [f"slice{page:02d}" for page in range(7)]
    assert list(samples["group"]) == [f"block{page // 3:02d}" for page in range(7)]
    assert list(samples["previous"]) == ["", *samples["id"][:-1]]
    for page, name in enumerate(samples["image"]):
        assert (read_pixels(tmp_path / "out" / name) == noise(page)[..., 0]).all()
    for mask in masks_of(tmp_path / "out").values():
        assert (mask == disc()).all()  # the membrane, which is black, is class 1
    assert read_info(tmp_path / "out").classes == ("cell", "membrane")


def test_single_slices(tmp_path: Path) -> None:
    """A slice whose lower neighbour is not there continues nothing."""
    make_slices(tmp_path / "isbi", (0, 1, 2, 5, 6, 10))
    download(published("isbi-2012", tmp_path / "isbi"), tmp_path / "out")
    samples = read_samples(tmp_path / "out").set_index("id")
    assert samples["previous"].to_dict() == {
        "slice00": "",
        "slice01": "slice00",
        "slice02": "slice01",
        "slice05": "",
        "slice06": "slice05",
        "slice10": "",
    }
    assert list(samples["group"]) == ["block00"] * 3 + ["block01"] * 2 + ["block02"]


def test_stacks_of_unequal_length(tmp_path: Path) -> None:
    make_stacks(tmp_path / "isbi", 7, 6)
    with pytest.raises(
        InputError, match=r"train-labels\.tif: 6 pages, but train-volume\.tif has 7"
    ):
        download(published("isbi-2012", tmp_path / "isbi"), tmp_path / "out")


@pytest.mark.parametrize("name", ["train-volume.tif", "train-labels.tif"])
def test_a_stack_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    for spoil in (lambda path: path.write_bytes(b"II*\0"), Path.unlink):
        make_stacks(tmp_path / "isbi")
        spoil(tmp_path / "isbi" / name)
        with pytest.raises(InputError) as caught:
            download(published("isbi-2012", tmp_path / "isbi"), tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_a_stack_that_ends_early(tmp_path: Path) -> None:
    make_stacks(tmp_path / "isbi")
    path = tmp_path / "isbi" / "train-volume.tif"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"train-volume\.tif: unreadable as a"):
        download(published("isbi-2012", tmp_path / "isbi"), tmp_path / "out")


# Flood Area Segmentation


def test_floods(tmp_path: Path) -> None:
    make_floods(tmp_path / "flood")
    params = published("flood-area", tmp_path / "flood")
    with pytest.raises(InputError, match=r"2\.jpg: its mask is 34x31 but the image is 36x30; .*"):
        download(params, tmp_path / "out")
    params = published("flood-area", tmp_path / "flood", {"size_difference": 2})
    download(params, tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert list(samples["id"]) == list("0123")
    assert list(zip(samples["width"], samples["height"], strict=True)) == [
        *((32, 24), (30, 40), (36, 30), (28, 28))
    ]
    for id, mask in masks_of(tmp_path / "out").items():
        # Photographs arrive as they were, without another loss.
        original = (tmp_path / "flood" / "Image" / f"{id}.jpg").read_bytes()
        assert (tmp_path / "out" / "images" / f"{id}.jpg").read_bytes() == original
        assert (mask != disc(*mask.shape)).mean() < (0.05 if id == "2" else 0.001)
    assert list(read_table(tmp_path / "out" / "measures.csv")["mask_resized"]) == [0, 0, 1, 0]


def test_a_flood_with_the_mask_of_another(tmp_path: Path) -> None:
    make_floods(tmp_path / "flood")
    put(tmp_path / "flood" / "Mask" / "3.png", grey_edges(24, 32))
    limits: Fields = {"size_difference": 2, "on_bad_pair": "skip"}
    said = download(published("flood-area", tmp_path / "flood", limits), tmp_path / "out")
    assert said.startswith("3 of 290 published images with masks of flood-area, 1 left out ")
    assert list(read_samples(tmp_path / "out")["id"]) == list("012")
    reasons = pd.read_csv(tmp_path / "out" / "skipped.csv")["reason"]
    assert len(reasons) == 1
    assert "3.jpg: its mask is 32x24 but the image is 28x28; " in reasons[0]


# HGR1


def test_hands(tmp_path: Path) -> None:
    make_hands(tmp_path / "hgr1")
    download(published("hgr1", tmp_path / "hgr1"), tmp_path / "out")
    samples = read_samples(tmp_path / "out").set_index("id")
    assert set(samples.index) == set(HANDS)
    columns = samples[["group", "stratum"]].agg(" ".join, axis=1)
    assert columns.to_dict() == {
        "1_P_hgr1_id01_2": "id01 1",
        "A_P_hgr1_id01_1": "id01 A",
        "A_P_hgr1_id02_1": "id02 A",
        "B_X_hgr1_id12_3": "id12 B",
    }
    assert samples["image"].str.endswith(".jpg").all()
    for mask in masks_of(tmp_path / "out").values():
        assert (mask == disc()).all()


@pytest.mark.parametrize("id", ["a", "A_P_hgr1_id01_1 (copy)", "A_P_hgr1_id_1"])
def test_a_foreign_name_among_hands(id: str, tmp_path: Path) -> None:
    make_hands(tmp_path / "source")
    put_noise(tmp_path / "source" / "original_images" / f"{id}.jpg", 50)
    put(tmp_path / "source" / "skin_masks" / f"{id}.bmp", grey_edges())
    said = re.escape(f"finds no parenthesised part in the id '{id}'; every id must yield one")
    with pytest.raises(InputError, match="^dataset.group: .*" + said) as caught:
        download(published("hgr1", tmp_path / "source"), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


# Real files


real = pytest.mark.skipif(not (SHARED / "datasets").exists(), reason="needs the real datasets")


@real
def test_isbi_on_the_real_slices(tmp_path: Path) -> None:
    params = published("isbi-2012", SHARED / "datasets" / "isbi-2012")
    said = download(params, tmp_path / "out")
    assert said.startswith("30 images with masks of isbi-2012 in ")
    samples = read_samples(tmp_path / "out")
    assert samples["group"].value_counts().to_dict() == {f"block{at:02d}": 5 for at in range(6)}
    assert (samples["previous"] != "").sum() == 29
    assert set(zip(samples["width"], samples["height"], strict=True)) == {(512, 512)}
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert measures["foreground"].mean() == pytest.approx(0.22, abs=0.005)


@real
def test_pets_on_real_photographs(tmp_path: Path) -> None:
    params = published("oxford-iiit-pet", SHARED / "datasets" / "oxford-iiit-pet")
    said = download(params, tmp_path / "out")
    assert said.startswith("150 of 7349 published images with masks of oxford-iiit-pet in ")
    samples = read_samples(tmp_path / "out")
    strata = samples["stratum"].value_counts().to_dict()
    assert strata == {"Abyssinian": 50, "Bengal": 50, "american_bulldog": 50}
    assert (samples["split"] == "").all()  # the lists are not among them
    measures = read_table(tmp_path / "out" / "measures.csv")
    low, high = read_info(tmp_path / "out").foreground
    assert low < measures["foreground"].mean() < high
