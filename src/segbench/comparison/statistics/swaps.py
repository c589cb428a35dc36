"""These networks on other images: candidates swap their scores in whole groups."""

import numpy as np

from segbench.comparison.statistics.family import EXACT, Family, Tested, sign_flips
from segbench.comparison.statistics.panel import Numbers, Panel


def swap_test(
    panel: Panel,
    first: Numbers,
    second: Numbers,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> Tested:
    """Paired permutation: two candidates swap their scores in whole groups of images.

    The interval holds all differences d that the same test would not reject: (D - d)^2 is at most
    c^2 times the sum of (part - weight d)^2 over groups, where c is the critical value.
    """
    parts = panel.groups.parts[first] - panel.groups.parts[second]
    weights = (panel.groups.weights[first] + panel.groups.weights[second]) / 2
    norm = np.sqrt((parts**2).sum(axis=1))
    norm = np.where(norm > 0, norm, np.inf)
    gaps = parts.sum(axis=1)
    family = Family(np.abs(gaps) / norm, exact=panel.num_groups <= EXACT)
    for flips in sign_flips(panel.num_groups, num_resamples, seed):
        moved = flips @ panel.groups.parts.T
        family.add(np.abs(moved[:, first] - moved[:, second]) / norm)
    critical = family.critical(confidence) ** 2
    # a d^2 + b d + e <= 0
    a = 1 - critical * (weights**2).sum(axis=1)
    b = -2 * gaps + 2 * critical * (parts * weights).sum(axis=1)
    e = gaps**2 - critical * (parts**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(np.maximum(b**2 - 4 * a * e, 0))
        bounded = a > 1e-9  # else there are too few groups to bound it
        low = np.where(bounded, (-b - root) / (2 * a), -np.inf)
        high = np.where(bounded, (-b + root) / (2 * a), np.inf)
    return Tested(family.p(), low, high)
