"""Distances between outlines, in pixels or in millimetres."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

UNIT = "in mm with dataset.spacing, else in pixels of the image"


@dataclass(frozen=True)
class Spacing:
    """How far apart the centres of neighbouring pixels are: 1 and 1 in pixels, or in millimetres.

    Attributes:
        row: of a pixel and the one below it.
        column: of a pixel and the one on its right.
    """

    row: float = 1.0
    column: float = 1.0

    def diagonal(self, height: float, width: float) -> float:
        """Length of the diagonal of so many pixels."""
        return float(np.hypot(height * self.row, width * self.column))


PIXELS = Spacing()


class Nearest:
    """How far the nearest of some pixels is.

    Args:
        edge: (H, W) those pixels, at least one.
        spacing: of all.
    """

    def __init__(self, edge: NDArray[np.bool_], spacing: Spacing) -> None:
        self._spacing = spacing
        if spacing.row == spacing.column:
            away = 1 - edge.view(np.uint8)
            self._field = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        else:
            from scipy import ndimage  # a tenth of a second, that few data sets need

            sampling = (spacing.row, spacing.column)
            self._field = ndimage.distance_transform_edt(~edge, sampling=sampling)

    def to(self, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Distance of each of some pixels (H, W), in the order of their rows."""
        found = self._field[pixels]
        if self._spacing.row != self._spacing.column:
            return found
        # Exactly, squares are whole numbers; rounding removes differences between code paths of
        # OpenCV.
        return self._spacing.row * np.sqrt(np.rint(np.square(found, dtype=np.float64)))


def has_distance(has_pred: bool, has_truth: bool, is_empty: bool) -> bool:
    """Whether there is a distance between two outlines, if only the worst that can be.

    Args:
        has_pred: the prediction has an outline that ignored pixels do not hide.
        has_truth: the truth has one.
        is_empty: the truth has no pixel: what is marked is wrong. Else it is not known where a
            hidden outline runs.
    """
    return has_truth or (has_pred and is_empty)
