"""Masks that look wrong: empty, full, inverted, grey, speckled."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.datasets.canonical import DatasetInfo

# From these shares on, a mask looks inverted: most of it, and nearly all of its rim, is foreground.
MOST_FOREGROUND, MOST_BORDER = 0.5, 0.9
LEAST_BETWEEN = 0.05
"""Share of grey pixels in a mask's file from which it is shown."""

MANY_COMPONENTS = 5
"""Times the usual number of components from which a mask is shown."""


def suspicious_masks(info: DatasetInfo, measures: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Rows of samples whose masks are odd, by what is odd."""
    usual = max(float(measures["components"].median()), 1)
    inverted = (measures["foreground"] > MOST_FOREGROUND) & (measures["border"] > MOST_BORDER)
    two = info.scheme.is_binary
    odd = {
        "empty_masks": measures["foreground"] == 0,
        "full_masks": (measures["foreground"] == 1) & two,
        "inverted_masks": inverted & two & (info.foreground[0] < MOST_FOREGROUND),
        "grey_masks": (measures["mask_between"] > LEAST_BETWEEN) & two,
        "speckled_masks": measures["components"] > MANY_COMPONENTS * usual,
    }
    return {name: np.flatnonzero(rows) for name, rows in odd.items()}
