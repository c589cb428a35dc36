"""Distances between outlines, in pixels or in millimetres."""

from dataclasses import dataclass
from functools import cached_property

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
PAIRS_PER_PIXEL = 4
"""So many distances between two pixels take no longer than the field of all distances."""


class Nearest:
    """How far the nearest of some pixels is.

    Args:
        edge: (H, W) those pixels, at least one.
        spacing: of all.
    """

    def __init__(self, edge: NDArray[np.bool_], spacing: Spacing) -> None:
        self._edge = edge
        self._spacing = spacing
        self._is_square = spacing.row == spacing.column

    def to(self, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Distance of each of some pixels (H, W), in the order of their rows."""
        if not self._is_square:
            return self._field[pixels].astype(np.float64, copy=False)
        pairs = np.count_nonzero(self._edge) * np.count_nonzero(pixels)
        # Not of an image so large that a square is more than 32 bits hold.
        if pairs < PAIRS_PER_PIXEL * pixels.size and max(pixels.shape) < 2**15:
            squares = self._squares(pixels)
        else:
            # Exactly, squares are whole numbers; rounding removes differences between code paths
            # of OpenCV.
            squares = np.rint(np.square(self._field[pixels], dtype=np.float64))
        return self._spacing.row * np.sqrt(squares)

    def _squares(self, pixels: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Squared distance of each of a few pixels, as whole numbers, from all pairs."""
        (rows, columns), (own_rows, own_columns) = (
            np.divmod(np.flatnonzero(each).astype(np.int32), np.int32(pixels.shape[1]))
            for each in (pixels, self._edge)
        )
        away = rows[:, None] - own_rows
        across = columns[:, None] - own_columns
        np.square(away, out=away)
        np.square(across, out=across)
        away += across
        return away.min(axis=1)

    @cached_property
    def _field(self) -> NDArray[np.floating]:
        """(H, W): distance of every pixel."""
        if self._is_square:
            away = 1 - self._edge.view(np.uint8)
            return cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        from scipy import ndimage  # a tenth of a second, that few data sets need

        sampling = (self._spacing.row, self._spacing.column)
        return ndimage.distance_transform_edt(~self._edge, sampling=sampling)


def has_distance(has_pred: bool, has_truth: bool, is_empty: bool) -> bool:
    """Whether there is a distance between two outlines, if only the worst that can be.

    Args:
        has_pred: the prediction has an outline that ignored pixels do not hide.
        has_truth: the truth has one.
        is_empty: the truth has no pixel: what is marked is wrong. Else it is not known where a
            hidden outline runs.
    """
    return has_truth or (has_pred and is_empty)
