"""Power: which true difference the decision that is taken would find."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr

from segbench.comparison.statistics.differences import Difference

POWER = 0.8
STEADY = 1e4
"""Reach in units of the error from which the error no longer matters, as of differences that are
the same in all groups."""


def resolvable(difference: Difference) -> float:
    """The smallest true difference that is found in 80 of 100 such experiments.

    Found as it would be here: beyond the reach of the simultaneous interval, whose errors have as
    many degrees of freedom as these.

    Returns:
        Infinite where no difference, however large, could be found.
    """
    return found_mostly(difference.error, difference.degrees, difference.reach)


def found_mostly(error: float, degrees: float, reach: float) -> float:
    """The true difference whose estimate lies beyond what chance reaches in 80 of 100 experiments.

    Args:
        error: standard error of the estimate.
        degrees: of freedom of that error.
        reach: what chance reaches.

    Returns:
        Infinite where no difference, however large, could be found.
    """
    if not np.isfinite(reach):
        return np.inf
    if not error > 0:
        return 0.0
    critical = reach / error
    if critical > STEADY:
        return reach

    def misses(shift: float) -> float:
        return float(nctdtr(degrees, shift, critical)) - (1 - POWER)

    high = critical + 1.0
    while misses(high) > 0:
        high *= 2
        if high > 1e6:
            return np.inf
    return error * float(brentq(misses, 0.0, high))
