"""Definition of a metric, and the input of optional ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Definition:
    """Definition of a metric, as shown in the report.

    Attributes:
        formula: in words and symbols.
        empty: its value if truth, prediction, or both are empty.
        lower_is_better: true for distances and errors.
    """

    formula: str
    empty: str
    lower_is_better: bool = False


@dataclass(frozen=True)
class Evidence:
    """Input of the optional metrics of an image.

    Attributes:
        pred_mask: (H, W) class ids.
        mask: (H, W) class ids, 255 where ignored.
        histogram: (F, 2, 256), see `probabilities.histogram`.
    """

    pred_mask: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    histogram: NDArray[np.int64]
