"""Seeds: how far the order agrees between them, and whose scores vary more than the others'."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from segbench.comparison.statistics.panel import Floats


@dataclass(frozen=True)
class Stability:
    """How far the ranking agrees between seeds.

    Attributes:
        firsts: (C,) share of seeds in which each candidate is first.
        agreement: mean of Kendall's tau over pairs of seeds; NaN for one seed or candidate.
    """

    firsts: list[float]
    agreement: float


def stability(seed_means: Floats) -> Stability:
    """Of means (C, S)."""
    first = np.bincount(
        np.nan_to_num(seed_means, nan=-np.inf).argmax(axis=0), minlength=len(seed_means)
    )
    taus = [
        stats.kendalltau(seed_means[:, a], seed_means[:, b]).statistic
        for a, b in combinations(range(seed_means.shape[1]), 2)
        if len(seed_means) > 1
    ]
    agreement = float(np.mean(taus)) if taus else np.nan
    return Stability((first / seed_means.shape[1]).tolist(), agreement)


def unstable(seed_means: Floats, alpha: float) -> list[int]:
    """Candidates whose means (C, S) vary more over seeds than those of the others together.

    By one-sided F tests, with Holm's correction.

    Args:
        seed_means: (C, S).
        alpha: significance level.
    """
    candidates, seeds = seed_means.shape
    if min(candidates, seeds) < 2:
        return []
    own = seed_means.var(axis=1, ddof=1)
    others = (own.sum() - own) / (candidates - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = stats.f.sf(own / others, seeds - 1, (seeds - 1) * (candidates - 1))
    found = []
    for step, at in enumerate(np.argsort(p, kind="stable")):
        if not p[at] * (candidates - step) < alpha:
            break
        found.append(int(at))
    return sorted(found)
