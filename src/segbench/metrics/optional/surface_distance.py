"""Distances between contours, weighted by length (Nikolov et al. 2021), in physical units.

Nikolov et al. 2021, "Clinically applicable segmentation of head and neck anatomy for radiotherapy".
A contour runs between pixels, through the corners at which mask and background meet; a corner
stands for the length of contour in the square between the centres of its four pixels.
"""

import numpy as np
from numpy.typing import NDArray

from segbench.images import Pixels
from segbench.metrics.definition import Definition, OwnSize
from segbench.metrics.distances import UNIT, Nearest, Spacing, has_distance
from segbench.metrics.one_class import OneClass, mean_over_classes

_LEFT_OUT = (
    "left out where truth and prediction are both empty, or ignored pixels hide the truth's contour"
)
DEFINITIONS = {
    "surface_dice_by_length": Definition(
        "share of the length of both contours within the tolerance (evaluate.tolerance, "
        f"{UNIT}) of the other, at the image's own size (Nikolov et al. 2021)",
        f"{_LEFT_OUT}; 0 where only one of them has a contour",
    ),
    "average_surface_distance": Definition(
        f"mean distance, {UNIT}, of both contours from each other (average symmetric surface "
        "distance), weighted by length, at the image's own size",
        f"{_LEFT_OUT}; the image's diagonal where only one of them has a contour",
        lower_is_better=True,
        is_distance=True,
    ),
}


def of_masks(own: OwnSize) -> dict[str, float]:
    """Surface distances of an image, averaged over its classes."""
    return mean_over_classes(own, DEFINITIONS, _of_class)


def _of_class(masks: OneClass, own: OwnSize) -> list[float]:
    spacing = own.spacing
    corners = [_corners(mask, masks.ignored) for mask in (masks.pred, masks.truth)]
    has_pred, has_truth = (bool(one.any()) for one in corners)
    if not has_distance(has_pred, has_truth, not masks.truth.any()):
        return [np.nan, np.nan]
    if not (has_pred and has_truth):
        return [0.0, spacing.diagonal(*own.mask.shape)]
    lengths = _lengths(spacing)
    codes = [_codes(mask) for mask in (masks.pred, masks.truth)]
    within, apart, whole = 0.0, 0.0, 0.0
    for at in (0, 1):
        distance = Nearest(corners[1 - at], spacing).to(corners[at])
        length = lengths[codes[at][corners[at]]]
        within += length[distance <= own.tolerance].sum()
        apart += (length * distance).sum()
        whole += length.sum()
    return [within / whole, apart / whole]


def _codes(mask: Pixels) -> Pixels:
    """Which of the four pixels around each corner are in a mask: (H, W) to (H + 1, W + 1)."""
    wide = np.pad(mask, 1)
    rows = (wide[:-1] << 2 | wide[1:]).astype(np.uint8)  # two pixels, one below the other
    return (rows[:, :-1] << 1 | rows[:, 1:]).astype(np.uint8)


def _corners(mask: Pixels, ignored: Pixels | None) -> NDArray[np.bool_]:
    """Corners on the contour of a mask, but for those of ignored pixels."""
    codes = _codes(mask)
    found = (codes > 0) & (codes < 15)
    return found if ignored is None else found & (_codes(ignored) == 0)


def _lengths(spacing: Spacing) -> NDArray[np.float64]:
    """(16,) length of the contour at a corner, by its code: across, along, or cutting pixels off.

    Between the centres of four pixels it cuts off one of them, or two that face each other, or
    halves the square.
    """
    cut = spacing.diagonal(1, 1) / 2
    length = np.full(16, cut)
    length[[0, 15]] = 0
    length[[0b0011, 0b1100]] = spacing.column
    length[[0b0101, 0b1010]] = spacing.row
    length[[0b0110, 0b1001]] = 2 * cut
    return length
