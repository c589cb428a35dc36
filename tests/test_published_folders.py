"""The recipes that read a published folder, on data made as it was published, fault by fault."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from segbench.datasets.canonical import read_samples
from segbench.datasets.download import download
from segbench.images import Pixels
from segbench.params import Params, load_params
from segbench.splits.split import SplitPaths, split

ROOT = Path(__file__).parents[1]


def scene(seed: int, width: int, height: int) -> tuple[Pixels, Pixels]:
    """A smooth picture that no other resembles, and a mask of about a third of it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    field = cv2.resize(rng.random((5, 5)), (width, height), interpolation=cv2.INTER_CUBIC)
    mask = (field > np.quantile(field, 0.65)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), mask


def save(path: Path, pixels: Pixels, **how: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


def ingest_and_split(recipe: str, source: Path, out: Path) -> tuple[str, str, pd.DataFrame]:
    """What the recipe's first two stages say, and the split."""
    params = load_params(ROOT / "recipes" / f"{recipe}.yaml")
    tree = params.model_dump()
    tree["dataset"]["source"] = str(source)
    params = Params.model_validate(tree)
    said = download(params.dataset, out / "dataset")
    paths = SplitPaths(out / "split.csv", out / "split.json", out / "split.html", out / "pictures")
    said_of_split = split(out / "dataset", params.split, params.report, params.augment, paths)
    table = pd.read_csv(out / "split.csv", dtype=str)
    return said, said_of_split, table


def test_floods_as_published(tmp_path: Path) -> None:
    """290 masks, 286 images, seven masks of another size, nine images that are there twice."""
    source = tmp_path / "archive"
    sizes = {number: (60 + number % 7 * 4, 44 + number % 5 * 4) for number in range(290)}
    originals = dict(zip(range(200, 209), range(20, 29), strict=True))
    for number, (width, height) in sizes.items():
        pixels, mask = scene(originals.get(number, number), *sizes[originals.get(number, number)])
        if number < 286:
            save(source / "Image" / f"{number}.jpg", pixels, quality=95)
        if 100 <= number < 107:  # two of them have the masks of each other
            mask = cv2.resize(mask, (width + 9, height + 12), interpolation=cv2.INTER_NEAREST)
        soft = cv2.GaussianBlur(mask * 255, (3, 3), 0)  # lossy, so that edges are grey
        save(source / "Mask" / f"{number}.png", soft)
    (source / "metadata.csv").write_text("Image,Mask\n0.jpg,0.png\n")
    said, said_of_split, table = ingest_and_split("flood-vgg19", source, tmp_path)
    assert "279 of 290 published images with masks of flood-area, 11 left out" in said
    assert "metadata.csv" in said
    reasons = "\n".join(pd.read_csv(tmp_path / "dataset" / "skipped.csv")["reason"])
    for number in (*range(100, 107), *range(286, 290)):
        assert f"/{number}." in reasons
    assert reasons.count("\n") == 10
    assert sorted(table["split"].value_counts()) == [28, 28, 223]
    split_of = table.set_index("id")["split"]
    assert all(split_of[str(again)] == split_of[str(first)] for again, first in originals.items())
    assert "279 of the 290 published" in said_of_split
    digests = {
        hashlib.sha256((tmp_path / "dataset" / image).read_bytes()).digest()
        for image in read_samples(tmp_path / "dataset")["image"]
    }
    assert len(digests) == 270


def test_hands_as_published(tmp_path: Path) -> None:
    """899 images of 12 people and 25 gestures; hands are 0, the background 255 or opaque white."""
    source, rng = tmp_path / "hgr1", np.random.default_rng(0)
    gestures = [*"ABCDEFGHIJKLMNOPQRSTUVWXY"]
    for number in range(899):
        size = (44 + number % 9 * 4, 33 + number % 9 * 3)
        pixels, mask = scene(number, *size)
        name = f"{gestures[number % 25]}_P_hgr1_id{number % 12 + 1:02d}_{number // 25 + 1}"
        save(source / "original_images" / f"{name}.jpg", pixels, quality=95)
        grey = 255 - mask * 255
        if number % 2:
            alpha = rng.integers(0, 256, grey.shape, np.uint8)
            save(source / "skin_masks" / f"{name}.png", np.dstack([grey, grey, grey, alpha]))
        else:
            image = Image.fromarray(grey).convert("1")
            (source / "skin_masks").mkdir(parents=True, exist_ok=True)
            image.save(source / "skin_masks" / f"{name}.bmp")
    said, _, table = ingest_and_split("hgr1-resnet50", source, tmp_path)
    assert "899 images with masks of hgr1 in" in said
    assert "WARNING" not in said
    assert table.groupby("group")["split"].nunique().eq(1).all()
    assert table["group"].nunique() == 12
    assert table["stratum"].nunique() == 25
    assert set(table["split"]) == {"train", "val", "test"}
