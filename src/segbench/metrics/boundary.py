"""Where outlines lie: distances between them, and how much of them agrees.

An outline is the pixels of a mask with one of their four neighbours outside it; beyond the image is
outside. Pixels that are ignored are background in both masks.
"""

from dataclasses import astuple, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.metrics import Definition
from segbench.samples import IGNORE, Pixels

PERCENTILE = 95.0
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class Boundary:
    """Scores of one class of one image; NaN where truth and prediction are both empty.

    Attributes:
        boundary_iou: IoU of the two masks' inner margins.
        hausdorff95: in pixels.
        surface_dice: share of both outlines that lies within the tolerance of the other.
    """

    boundary_iou: float
    hausdorff95: float
    surface_dice: float


DEFINITIONS = {
    "boundary_iou": Definition(
        "IoU of what lies within 2 % of the image's diagonal of each mask's own outline "
        "(Cheng et al. 2021)",
        "left out where truth and prediction are both empty; 0 where one of them is",
    ),
    "hausdorff95": Definition(
        "95th percentile of the distances from one outline to the other, in pixels; the larger of "
        "both directions",
        "left out where truth and prediction are both empty; the image's diagonal where one of "
        "them is",
        lower_is_better=True,
    ),
    "surface_dice": Definition(
        "share of both outlines within the tolerance (evaluate.tolerance, in pixels) of the other: "
        "normalised surface distance (Nikolov et al. 2021)",
        "left out where truth and prediction are both empty; 0 where one of them is",
    ),
}
NAMES = tuple(DEFINITIONS)
MARGIN = 0.02
"""Width of the margin of boundary IoU, as a share of the image's diagonal."""


def boundary_scores(
    pred_mask: Pixels, mask: Pixels, num_classes: int, tolerance: float
) -> NDArray[np.float64]:
    """Boundary scores of an image, the mean over its foreground classes that have any.

    Args:
        pred_mask: (H, W) class ids.
        mask: (H, W) class ids, 255 where ignored.
        num_classes: with the background.
        tolerance: of the surface dice, in pixels.

    Returns:
        (3,): boundary IoU, Hausdorff 95 in pixels, surface dice; NaN where no class has pixels.

    Raises:
        ValueError: if the shapes differ.
    """
    if pred_mask.shape != mask.shape:
        raise ValueError(f"masks differ in shape: {pred_mask.shape}, {mask.shape}")
    ignored = mask == IGNORE
    pred_mask = np.where(ignored, 0, pred_mask) if ignored.any() else pred_mask
    rows = [
        astuple(of_class((pred_mask == at).view(np.uint8), (mask == at).view(np.uint8), tolerance))
        for at in range(1, num_classes)
    ]
    there = [row for row in rows if not np.isnan(row[0])]
    return np.mean(there, axis=0) if there else np.full(len(NAMES), np.nan)


def of_class(pred: Pixels, truth: Pixels, tolerance: float) -> Boundary:
    """Boundary scores of one class, of masks (H, W) of 0 and 1."""
    diagonal = float(np.hypot(*truth.shape))
    if not (has := (bool(pred.any()), bool(truth.any())))[0] or not has[1]:
        return Boundary(0.0, diagonal, 0.0) if any(has) else Boundary(*[np.nan] * 3)
    # Nothing outside of both matters, and most masks are small.
    left, top, width, height = cv2.boundingRect(pred | truth)
    box = (slice(top, top + height), slice(left, left + width))
    # Cut at the image's edges only, beyond which is outside, as beyond the box.
    pred, truth = np.ascontiguousarray(pred[box]), np.ascontiguousarray(truth[box])
    edges = [_inner(part, _CROSS) for part in (pred, truth)]
    apart = [_distances(*pair) for pair in (edges, edges[::-1])]
    near = sum(int((part <= tolerance).sum()) for part in apart)
    reach = max(1, round(MARGIN * diagonal))
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    margins = [_inner(part, square) for part in (pred, truth)]
    shared, either = (
        int(part.sum()) for part in (margins[0] & margins[1], margins[0] | margins[1])
    )
    return Boundary(
        shared / either,
        max(float(np.percentile(part, PERCENTILE)) for part in apart),
        near / sum(len(part) for part in apart),
    )


def _inner(mask: Pixels, neighbours: Pixels) -> Pixels:
    """Pixels of a mask with one of its neighbours outside."""
    eroded = cv2.erode(mask, neighbours, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask - eroded


def _distances(edge: Pixels, other: Pixels) -> NDArray[np.float64]:
    """Distance of each pixel of an outline to the nearest of the other, in pixels."""
    field = cv2.distanceTransform(1 - other, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Roots of whole numbers, up to the last digit, which depends on the code path that it takes.
    return np.sqrt(np.rint(np.square(field[edge.view(bool)], dtype=np.float64)))
