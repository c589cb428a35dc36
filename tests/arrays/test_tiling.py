"""Tiling: cut, then put together, and nothing is lost, doubled or moved."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segbench.arrays.store import Arrays, open_arrays
from segbench.arrays.tiling import StitchedImages
from segbench.datasets.canonical import read_samples
from segbench.errors import InputError
from segbench.evaluation.per_image import Scorer
from segbench.evaluation.predict import Truths, predict
from segbench.evaluation.scoring import score
from segbench.exports.masks import MaskRule
from segbench.images import read_pixels
from segbench.labels import LabelScheme
from segbench.params import Params
from segbench.params.augment import Patches
from segbench.windows import tile_windows
from support.pipeline import pack

PATCHES = Patches(height=32, width=48, overlap=8)


def cut(images: list[np.ndarray], patches: Patches) -> Arrays:
    """Images (H, W, 3) as the packed windows that augment makes of them."""
    rows, windows = [], []
    for number, image in enumerate(images):
        for window in tile_windows(image.shape[1], image.shape[0], patches, "a"):
            down, right = window.top + window.height, window.left + window.width
            windows.append(image[window.top : down, window.left : right])
            place = {"whole": f"i{number}", "top": window.top, "left": window.left}
            labels = {"id": f"i{number}{window.name}", "group": "g", "stratum": "", "copy": 0}
            rows.append({**labels, **place})
    pixels = np.stack(windows)
    return Arrays(pixels, pixels[..., 0], pd.DataFrame(rows))


def random_images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for size in sizes]


@given(
    sizes=st.lists(st.tuples(st.integers(32, 90), st.integers(48, 130)), min_size=1, max_size=3),
    batch=st.integers(1, 7),
)
def test_what_was_cut_comes_together_again(sizes: list[tuple[int, int]], batch: int) -> None:
    """A network that repeats its input must give each image back, whatever the batches."""
    images = random_images(*sizes)
    arrays = cut(images, PATCHES)
    stitched = StitchedImages(arrays)
    assert len(stitched) == len(images)
    assert list(stitched.samples["id"]) == [f"i{number}" for number in range(len(images))]
    logits = arrays.images.transpose(0, 3, 1, 2).astype(np.float32)
    parts = [logits[at : at + batch] for at in range(0, len(logits), batch)]
    blended = list(stitched.blend(parts))
    for index, image in enumerate(images):
        assert (stitched.image(index) == image).all()
        assert (stitched.mask(index) == image[..., 0]).all()
        found, mask = blended[index]
        assert np.allclose(found.transpose(1, 2, 0), image, atol=1e-3)
        assert (mask == image[..., 0]).all()


def test_a_window_counts_the_less_the_nearer_its_edge() -> None:
    patches = Patches(height=32, width=32, overlap=16)
    arrays = cut(random_images((32, 48)), patches)
    says = np.stack([np.zeros((1, 32, 32), np.float32), np.ones((1, 32, 32), np.float32)])
    ((blended, _),) = StitchedImages(arrays).blend([says])
    row = blended[0, 16]
    assert (row[:16] == 0).all()
    assert (row[32:] == 1).all()
    assert (np.diff(row[16:32]) > 0).all()
    assert row[16:32].mean() == pytest.approx(0.5, abs=1e-5)


def test_without_patches_samples_are_whole() -> None:
    images = np.stack(random_images((32, 32), (32, 32), (32, 32)))
    table = pd.DataFrame({"id": ["a", "b", "c"], "group": "g", "stratum": "", "copy": 0})
    stitched = StitchedImages(Arrays(images, images[..., 0], table))
    assert not stitched.is_tiled
    assert list(stitched.samples["id"]) == ["a", "b", "c"]
    assert (stitched.image(1) == images[1]).all()
    assert (stitched.mask(2) == images[2, ..., 0]).all()


def test_an_image_smaller_than_a_patch() -> None:
    with pytest.raises(InputError, match=r"a: 40x40 is smaller than a patch of 48x32; lower augm"):
        tile_windows(40, 40, PATCHES, "a")


@pytest.mark.parametrize("size", [32, 48, 64])
def test_whole_images_are_scored_not_patches(
    tree: dict[str, Any], tmp_path: Path, size: int
) -> None:
    """Through packing and prediction, also where windows are packed larger or smaller than cut."""
    tree["augment"].update(height=64, width=64)
    tree["augment"]["patches"] = {"height": size, "width": size, "overlap": 16}
    params = Params.model_validate(tree)
    folder = pack(params, tmp_path)
    files = read_samples(folder / "dataset").set_index("id")
    split = open_arrays(folder / "arrays" / "fold0" / "test")
    stitched = StitchedImages(split)
    assert len(stitched) == 3 < len(split.images)

    class Oracle(torch.nn.Module):
        """Knows the truth of the windows, which it gets in order."""

        def __init__(self) -> None:
            super().__init__()
            self.done = 0
            self.where = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            masks = torch.from_numpy(np.array(split.masks[self.done : self.done + len(images)]))
            self.done += len(images)
            return torch.where(masks == 1, 5.0, -5.0)[:, None]

    truths = Truths(folder / "dataset")
    seen = list(predict(Oracle(), split, truths, params.evaluate.batch_size, 0.5, [1]))
    rule = MaskRule(0.5, 0, False, False)
    found = score(Scorer(LabelScheme(2, 0), 2.0, rule, rule, []), seen)
    assert len(found) == 3
    tp, fp, fn, tn = np.stack([image.counts[0, 0] for image in found]).T
    for index, id in enumerate(stitched.samples["id"]):
        truth = read_pixels(folder / "dataset" / files["mask"][id])
        assert (seen[index].original() == truth).all()
        assert stitched.image(index).shape[:2] == seen[index].pred_mask.shape
        if size == 64:  # not resized: pixel for pixel
            assert (stitched.mask(index) == truth).all()
            assert (seen[index].pred_mask == truth).all()
        # Whatever the size it was seen at.
        assert found[index].row["dice_original"] > (0.99 if size == 64 else 0.9)
        share = (truth == 1).mean()
        assert (stitched.mask(index) == 1).mean() == pytest.approx(share, abs=0.02)
        pixels = int(tp[index] + fp[index] + fn[index] + tn[index])
        assert pixels == stitched.mask(index).size
    # Where windows are resized their rounded places may differ by a pixel.
    assert (fp + fn).sum() <= (0 if size == 64 else 0.02 * (tp + tn).sum())
