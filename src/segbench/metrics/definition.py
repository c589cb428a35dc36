"""Definition of a metric, and the input of optional ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.metrics.distances import Spacing


@dataclass(frozen=True)
class Definition:
    """Definition of a metric, as shown in the report.

    Attributes:
        formula: in words and symbols.
        empty: its value if truth, prediction, or both are empty.
        lower_is_better: true for distances and errors.
        is_distance: it has a unit; see `distances.Spacing`.
    """

    formula: str
    empty: str
    lower_is_better: bool = False
    is_distance: bool = False


@dataclass(frozen=True)
class OwnSize:
    """Masks of an image at its own size.

    Attributes:
        pred_mask: (H', W') class ids from the default rule.
        mask: (H', W') class ids, 255 where ignored.
        class_ids: of the classes that are scored and that the split holds.
        spacing: of its pixels.
        tolerance: up to which outlines agree, in the unit of the spacing.
    """

    pred_mask: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    class_ids: Sequence[int]
    spacing: Spacing
    tolerance: float


@dataclass(frozen=True)
class Evidence:
    """Input of the optional metrics of an image.

    Attributes:
        pred_mask: (H, W) class ids.
        mask: (H, W) class ids, 255 where ignored.
        histogram: (F, 2, 256), see `probabilities.histogram`.
        class_ids: the F classes that are scored.
    """

    pred_mask: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    histogram: NDArray[np.int64]
    class_ids: Sequence[int]
