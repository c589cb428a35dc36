"""Packed arrays hold what the dataset holds, and only training images are varied."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.arrays.augment import augment
from segbench.arrays.store import open_arrays, read_header
from segbench.datasets.canonical import read_samples
from segbench.datasets.download import download
from segbench.errors import InputError
from segbench.images import read_pixels, resize
from segbench.params import Params
from segbench.splits.assign import COLUMNS, read_split
from support.masks import nearest, stripes
from support.pipeline import pack


def test_held_out_images_are_never_varied(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["augment"]["copies"] = 2
    pack(Params.model_validate(tree), tmp_path)
    files = read_samples(tmp_path / "dataset").set_index("id")
    for split, copies in (("train", 2), ("val", 0), ("test", 0)):
        part = open_arrays(tmp_path / "arrays" / "fold0" / split)
        assert sorted(set(part.samples["copy"])) == list(range(copies + 1))
        for at, row in enumerate(part.samples.itertuples()):
            image, mask = (
                read_pixels(tmp_path / "dataset" / files[kind][row.id])
                for kind in ("image", "mask")
            )
            image, mask = resize(image, mask, 64, 64)
            if row.copy == 0:
                assert (part.images[at] == image).all()
                assert (part.masks[at] == mask).all()
        if copies:
            originals = part.images[part.samples["copy"] == 0]
            varied = part.images[part.samples["copy"] == 1]
            assert (originals != varied).any(axis=(1, 2, 3)).mean() > 0.5


def test_a_split_whose_objects_are_lost_in_resizing_is_refused(
    packed: Path, params: Params, tmp_path: Path
) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(packed / "dataset", dataset)
    table, files = read_split(packed / "split.csv"), read_samples(dataset).set_index("id")
    for id in table["id"][table["split"] == "val"]:
        mask = np.zeros_like(read_pixels(dataset / files["mask"][id]))
        mask[4] = 1  # of 72 rows, one that no centre of 64 falls on
        Image.fromarray(mask).save(dataset / files["mask"][id])
    out = (tmp_path / "arrays", tmp_path / "preview.png")
    with pytest.raises(InputError, match="no mask of val in fold 0 keeps any object at 64x64, so"):
        augment(dataset, packed / "split.csv", params.augment, *out)
    assert not out[0].exists()


def test_stored_copies_that_lose_their_objects_are_counted(
    packed: Path, tree: dict[str, Any], tmp_path: Path
) -> None:
    """The object is 4 of 96 columns wide, so that a crop of 8 x 8 rarely holds any of it."""
    dataset = tmp_path / "dataset"
    shutil.copytree(packed / "dataset", dataset)
    files = read_samples(dataset).set_index("id")
    for file in files["mask"]:
        mask = np.zeros_like(read_pixels(dataset / file))
        mask[:, 40:44] = 1
        Image.fromarray(mask).save(dataset / file)

    def copies(transforms: list[dict[str, Any]], name: str) -> tuple[str, int, int]:
        tree["augment"].update(copies=2, transforms=transforms)
        augmented = Params.model_validate(tree).augment
        out = tmp_path / name
        said = augment(dataset, packed / "split.csv", augmented, out, tmp_path / f"{name}.png")
        part = open_arrays(out / "fold0" / "train")
        stored = np.flatnonzero(part.samples["copy"] > 0)
        return said, len(stored), sum(not (part.masks[at] == 1).any() for at in stored)

    crop = {"transform": "RandomCrop", "height": 8, "width": 8}
    back = {"transform": "Resize", "height": 64, "width": 64}
    said, stored, emptied = copies([crop, back], "cropped")
    assert 0 < emptied < stored
    assert f"WARNING: {emptied} of {stored} augmented copies lose all foreground" in said
    flipped, _, none = copies([{"transform": "HorizontalFlip", "p": 1.0}], "flipped")
    assert none == 0
    assert "WARNING" not in flipped


def test_splits_hold_their_own_samples(packed: Path) -> None:
    table = read_split(packed / "split.csv")
    for split in ("train", "val", "test"):
        part = open_arrays(packed / "arrays" / "fold0" / split)
        assert list(part.samples["id"]) == list(table[table["split"] == split]["id"])
        assert part.images.dtype == part.masks.dtype == np.uint8


def test_resizing_keeps_mask_and_image_in_place() -> None:
    """Centres stay centres: plain nearest would shift a mask by half a pixel of the larger grid."""
    mask = np.zeros((96, 96), np.uint8)
    mask[30:66, 30:66] = 1
    image = np.repeat(mask[..., None] * 255, 3, axis=2)
    for size in (32, 48, 64, 160, 192):
        small, truth = resize(image, mask, size, size)
        rows = np.flatnonzero(truth.any(axis=1))
        assert abs((rows[0] + rows[-1]) / 2 - (size - 1) / 2) < 0.51
        assert (((small[..., 0] > 127) != truth).mean()) < 0.02
        assert set(np.unique(truth)) == {0, 1}


def test_nearest_takes_the_pixel_at_the_centre() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (96, 96), np.uint8)
    _, small = resize(np.repeat(mask[..., None], 3, axis=2), mask, 32, 32)
    assert (small == mask[1::3, 1::3]).all()


def test_packing_again_gives_the_same_bytes(packed: Path, params: Params, tmp_path: Path) -> None:
    pack(params, tmp_path)
    for path in sorted((packed / "arrays").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(packed)).read_bytes(), path


def test_preview_shows_samples_beside_variations(packed: Path, params: Params) -> None:
    with Image.open(packed / "preview.png") as sheet:
        assert sheet.width > 6 * 64
        assert sheet.height > params.augment.preview_samples * 64


def test_what_is_told_of_a_dataset_retrains_nothing(packed: Path) -> None:
    header = (packed / "arrays" / "header.json").read_text()
    assert "licence" not in header
    assert "redistributable" not in header


def test_header_ties_arrays_to_the_dataset(packed: Path) -> None:
    header = read_header(packed / "arrays")
    assert header.num_outputs == 1
    assert len(header.digest) == 64
    assert header.dataset.redistributable


@pytest.mark.parametrize("patches", [None, {"height": 48, "width": 40, "overlap": 10}])
def test_packed_masks_keep_their_classes_and_their_place(
    patches: dict[str, int] | None, tree: dict[str, Any], tmp_path: Path
) -> None:
    """Whole images and patches, resized by factors that are not whole."""
    tree["augment"].update(height=96, width=64, patches=patches, copies=0, transforms=[])
    tree["dataset"].update(num_sequences=6, frames_per_sequence=2, height=71, width=81)
    params = Params.model_validate(tree)
    download(params.dataset, tmp_path / "dataset")
    masks = {}
    for seed, row in enumerate(read_samples(tmp_path / "dataset").itertuples()):
        masks[row.id] = stripes(int(row.height), int(row.width), seed)
        Image.fromarray(masks[row.id]).save(tmp_path / "dataset" / str(row.mask))
    split = read_samples(tmp_path / "dataset")[["id", "group", "stratum"]]
    names = ["train", "val", "test"] * (len(split) // 3)
    split = split.assign(fold=0, split=names, drawn=names)[COLUMNS]
    split.to_csv(tmp_path / "split.csv", index=False)
    arrays = tmp_path / "arrays"
    augment(
        tmp_path / "dataset", tmp_path / "split.csv", params.augment, arrays, tmp_path / "sheet.png"
    )
    for name in ("train", "val", "test"):
        part = open_arrays(arrays / "fold0" / name)
        for packed_mask, row in zip(part.masks, part.samples.itertuples(), strict=True):
            mask = masks[str(getattr(row, "whole", row.id))]
            if patches:
                top, left = map(int, re.findall(r"\d+", str(row.id).rpartition("_")[2]))
                mask = mask[top : top + 48, left : left + 40]
            assert (packed_mask == nearest(mask, 96, 64)).all()
