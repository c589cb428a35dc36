"""Power: which true difference the decision that is taken would find."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr

from segbench.comparison.statistics.differences import Difference

POWER = 0.8


def resolvable(difference: Difference) -> float:
    """The smallest true difference that is found in 80 of 100 such experiments.

    Found as it would be here: beyond the reach of the simultaneous interval, whose errors have as
    many degrees of freedom as these.

    Returns:
        Infinite where no difference, however large, could be found.
    """
    error, free = difference.error, difference.degrees
    if not np.isfinite(difference.reach):
        return np.inf
    if not error > 0:
        return 0.0
    critical = difference.reach / error

    def misses(shift: float) -> float:
        return float(nctdtr(free, shift, critical)) - (1 - POWER)

    high = critical + 1.0
    while misses(high) > 0:
        high *= 2
        if high > 1e6:
            return np.inf
    return error * float(brentq(misses, 0.0, high))
