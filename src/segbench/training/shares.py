"""Shares of the training groups, to see whether more of them would help."""

import hashlib
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def kept_rows(samples: pd.DataFrame, share: float, fold: int, seed: int) -> NDArray[np.bool_]:
    """Which samples are of the groups that a share keeps.

    Groups have a random order, in which each stratum is spread evenly; a share keeps the first ones
    of it, at least one, so that a smaller share lies within a larger one. The order is a function
    of fold, seed and the names of the groups. It is another for each seed: what varies with the
    choice of groups is then part of what varies from seed to seed.

    Args:
        samples: N rows of a training split: group and stratum.
        share: of the groups, in (0, 1]; rounded down.
        fold, seed: the repetition.

    Returns:
        (N,).
    """
    assert 0 < share <= 1
    groups = samples.drop_duplicates("group")[["group", "stratum"]]
    drawn = [hashlib.sha256(f"{fold} {seed} {one}".encode()).hexdigest() for one in groups["group"]]
    groups = groups.assign(drawn=drawn).sort_values("drawn")
    strata = groups.groupby("stratum")["group"]
    place = (strata.cumcount() + 0.5) / strata.transform("size")
    order = groups.assign(place=place).sort_values("place", kind="stable")["group"]
    # A share such as 0.29 of 100 is a little less than 29 to a computer.
    number = max(1, math.floor(share * len(order) + 1e-9))
    kept: NDArray[np.bool_] = samples["group"].isin(order.iloc[:number]).to_numpy()
    return kept
