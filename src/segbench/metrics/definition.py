"""Metrics: masks to counts to scores, pure functions; a room for each kind of evidence.

counts         pixels that are right and wrong, and their ratios
boundary       where outlines lie
probabilities  histograms of what a network says: counts at every threshold, average precision
calibration, pranet, v_rand    what is computed only where params name it

Legend: N images, F foreground classes (all but class 0), H and W pixels. Ignored pixels (255) are
in no count. Where truth and prediction of a class are both empty, a score is NaN, which means
leave out and count; what holds where one of them is empty, each metric says.
"""

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
