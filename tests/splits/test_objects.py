"""Objects that resizing loses are counted, by the very resizing that packs them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segbench.arrays.augment import _resized_window
from segbench.datasets.canonical import DatasetInfo
from segbench.images import IGNORE, Pixels
from segbench.params.augment import Augment
from segbench.splits.objects import LostObjects, lost_objects
from segbench.windows import tile_windows
from support.params import read_params

CLASSES = ("background", "crack", "spall")
INFO = DatasetInfo("made", CLASSES, "own", False, "")


def sized(height: int, width: int, patches: dict[str, int] | None = None) -> Augment:
    return Augment.model_validate(
        read_params()["augment"] | {"height": height, "width": width, "patches": patches}
    )


def crack(row: int, thick: int = 2) -> Pixels:
    """A line across 512 x 512; only every eighth row is sampled at 64 x 64."""
    mask = np.zeros((512, 512), np.uint8)
    mask[row : row + thick] = 1
    return mask


def kept_by_packing(mask: Pixels, params: Augment) -> float:
    """Foreground of what `augment` packs, as a share of what the windows hold."""
    before = after = area = size = 0
    for window in tile_windows(mask.shape[1], mask.shape[0], params.patches, "x"):
        _, small = _resized_window(mask, mask, window, params)
        part = mask[window.top : window.top + window.height]
        part = part[:, window.left : window.left + window.width]
        before += int(((part > 0) & (part < IGNORE)).sum())
        after += int(((small > 0) & (small < IGNORE)).sum())
        area, size = area + part.size, size + small.size
    return after / size * area / before


@pytest.mark.parametrize(
    "params",
    [
        sized(64, 64),
        sized(96, 160),
        sized(64, 64, {"height": 200, "width": 200, "overlap": 20}),
        sized(256, 256, {"height": 100, "width": 130, "overlap": 0}),
    ],
    ids=["square", "oblong", "patches", "enlarged"],
)
def test_what_is_kept_is_what_is_packed(params: Augment) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = crack(int(rng.integers(0, 500)), int(rng.integers(1, 9)))
        mask[:, :100] = rng.choice([0, 0, 2, IGNORE], (512, 100))
        share = LostObjects(params, INFO).share_kept(mask, "x")
        assert share[0] == pytest.approx(kept_by_packing(mask, params))
        assert len(share) == 1 + len(INFO.scored)


def test_lost_and_shrunken_masks_are_counted_by_class() -> None:
    lost = LostObjects(sized(64, 64), INFO)
    masks = [crack(0), crack(4), crack(0, 40), crack(0, 40), np.zeros((512, 512), np.uint8)]
    masks[3][200:202] = 2  # a class of its own is lost, though the mask keeps most
    masks[2][100:110, 100:110] = 2
    half = crack(0)
    half[4, :100] = 1
    lost.kept += [lost.share_kept(mask, "x") for mask in [*masks, half]]
    gone, shrunken = lost.masks()
    assert gone.tolist() == [0, 3]
    assert lost.by_class()["spall"] == (1, 0, 2)
    assert lost.by_class()["crack"][0] == 1
    assert set(shrunken.tolist()).isdisjoint(gone.tolist())
    said = lost.describe()
    assert said.startswith("2 masks lose all of a class at 64x64 (crack all in 1 of 5, spall all ")
    lost.kept[2][1] = 0.3
    said = lost.describe()
    assert said.startswith("2 masks lose all of a class and 1 mask loses over half of a class at")
    assert "(crack all in 1 and over half in 1 of 5, spall all in 1 of 2); raise" in said
    assert "raise augment.height and width, or use augment.patches" in said


def test_patches_that_keep_all_lose_nothing() -> None:
    lost = LostObjects(sized(64, 64, {"height": 64, "width": 64, "overlap": 0}), INFO)
    lost.kept.append(lost.share_kept(crack(3, 1), "x"))
    assert lost.describe() == ""
    small = LostObjects(sized(64, 64, {"height": 512, "width": 512, "overlap": 0}), INFO)
    small.kept.append(small.share_kept(crack(0, 1), "x"))
    assert "in patches resized to 64x64" in small.describe()
    assert "lower augment.patches to that size" in small.describe()


def test_all_masks_of_a_dataset_are_looked_at(tmp_path: Path) -> None:
    for at in range(12):
        Image.fromarray(crack(at)).save(tmp_path / f"{at}.png")
    samples = pd.DataFrame({"id": range(12), "mask": [f"{at}.png" for at in range(12)]})
    lost = lost_objects(tmp_path, samples, replace(INFO, classes=CLASSES[:2]), sized(64, 64))
    gone, _ = lost.masks()
    # Of every eight rows the fifth is looked at: two rows of a crack hit it or do not.
    assert gone.tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 10]
    assert "9 masks lose all" in lost.describe()
