"""Masks for tests of resizing, what exact nearest neighbour makes of them, and for metrics."""

import numpy as np

from segbench.images import Pixels
from segbench.metrics.definition import OwnSize
from segbench.metrics.distances import PIXELS, Spacing

# Class 1 next to 3, and the ignored rim next to 0: what lies between them is a class too, or none.
CLASSES = np.array([0, 1, 3, 255], np.uint8)
# (H, W) before and after: up and down, by whole and other factors, each side by its own. No centre
# falls on the edge of a pixel, where rounding decides.
RESIZES = [
    ((61, 83), (37, 52)),
    ((37, 53), (60, 80)),
    ((45, 64), (72, 192)),
    ((45, 63), (15, 21)),
    ((15, 21), (45, 63)),
    ((51, 49), (50, 51)),
]


def stripes(height: int, width: int, seed: int = 0) -> Pixels:
    """(H, W) class ids of `CLASSES` in blocks of up to four pixels, so that most edges move."""
    rng = np.random.default_rng(seed)
    small = CLASSES[rng.integers(0, len(CLASSES), (height, width))]
    down, right = (np.sort(rng.integers(0, -(-size // 2), size)) for size in (height, width))
    return np.ascontiguousarray(small[down][:, right])


def nearest(mask: Pixels, height: int, width: int) -> Pixels:
    """A mask (H, W) at another size: each pixel takes the one that its centre falls into."""
    down, right = (
        ((2 * np.arange(new) + 1) * old) // (2 * new)
        for new, old in zip((height, width), mask.shape, strict=True)
    )
    taken: Pixels = mask[down][:, right]
    return taken


def own_size(
    pred: Pixels,
    mask: Pixels,
    spacing: Spacing = PIXELS,
    tolerance: float = 0.0,
    num_classes: int = 2,
) -> OwnSize:
    """What metrics of shapes get of an image.

    Args:
        pred: (H, W) class ids.
        mask: (H, W) class ids, 255 where ignored.
        spacing: of the pixels.
        tolerance: up to which outlines agree.
        num_classes: with the background.
    """
    return OwnSize(pred, mask, range(1, num_classes), spacing, tolerance)
