"""What a metric is, and what it is computed from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Definition:
    """What a report tells of a metric.

    Attributes:
        formula: in words and symbols.
        empty: what holds where truth, prediction, or both are empty.
        lower_is_better: as of a distance.
    """

    formula: str
    empty: str
    lower_is_better: bool = False


@dataclass(frozen=True)
class Evidence:
    """What the optional metrics of an image are computed from.

    Attributes:
        pred_mask: (H, W) class ids.
        mask: (H, W) class ids, 255 where ignored.
        histogram: (F, 2, 256), see `probabilities.histogram`.
    """

    pred_mask: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    histogram: NDArray[np.int64]
