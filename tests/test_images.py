"""Pixels are read whatever their number, and masks are resized without making up classes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segbench.images import read_pixels, resize
from support.masks import CLASSES, RESIZES, nearest, stripes


def test_pillows_own_limit_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dataset.limits.megapixels refused what is too large long before; a stage that reads what it
    let pass must not die of it, nor warn."""
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    for limit in (64 * 48 // 3, 64 * 48 - 1):  # an error, and a warning
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert np.array_equal(read_pixels(tmp_path / "large.png"), pixels)


@pytest.mark.parametrize(("before", "after"), RESIZES)
def test_masks_are_resized_by_exact_nearest_neighbour(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    """An edge between the classes 1 and 3 never gives 2, and no mask moves by part of a pixel."""
    mask = stripes(*before)
    image = np.repeat(mask[..., None], 3, axis=2)
    small, resized_mask = resize(image, mask, *after)
    assert small.shape == (*after, 3)
    assert np.array_equal(resized_mask, nearest(mask, *after))


@pytest.mark.parametrize("kind", [cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA])
def test_other_interpolation_gives_other_masks(kind: int) -> None:
    """So that the test above can fail: plain nearest moves a mask, the others make up classes."""
    mask = stripes(61, 83)
    other = cv2.resize(mask, (52, 37), interpolation=kind)
    assert not np.array_equal(other, nearest(mask, 37, 52))
    assert (set(np.unique(other)) <= set(CLASSES)) == (kind == cv2.INTER_NEAREST)
