"""Interquartile means: of the middle half of all scores, which no easy or hopeless part sways.

As Agarwal et al. (2021) take it over runs and tasks; here of groups of images and data sets.
"""

from collections.abc import Sequence

import numpy as np

from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Floats

BATCH = 100
"""Resamples computed at a time, to bound memory."""


def interquartile_means(
    parts: Sequence[Floats], confidence: float, num_resamples: int, seed: int
) -> list[Interval]:
    """Of each candidate, over data sets of the same weight, with a stratified bootstrap interval.

    Args:
        parts: of each data set (C, G), the scores of its groups.
        confidence: of each interval for itself.
        num_resamples: in each of which every data set draws as many of its groups.
        seed: of these.
    """
    weights = np.concatenate([np.full(part.shape[1], 1 / part.shape[1]) for part in parts])
    weights /= weights.sum()
    found = _middle_means(np.concatenate(parts, axis=1)[None], weights)[0]
    rng = np.random.default_rng([seed, 7])
    drawn = []
    for start in range(0, num_resamples, BATCH):
        size = min(BATCH, num_resamples - start)
        picked = [part[:, rng.integers(0, part.shape[1], (size, part.shape[1]))] for part in parts]
        drawn.append(_middle_means(np.concatenate(picked, axis=2).swapaxes(0, 1), weights))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
    return [
        Interval(float(mean), float(min(a, mean)), float(max(b, mean)))
        for mean, a, b in zip(found, low, high, strict=True)
    ]


def _middle_means(scores: Floats, weights: Floats) -> Floats:
    """(b, C) of scores (b, C, N), of the middle half by weights (N,) that sum to 1."""
    order = np.argsort(scores, axis=2, kind="stable")
    ordered, own = np.take_along_axis(scores, order, axis=2), weights[order]
    upper = own.cumsum(axis=2)
    kept = np.clip(np.minimum(upper, 0.75) - np.maximum(upper - own, 0.25), 0, None)
    means: Floats = (kept * ordered).sum(axis=2) / kept.sum(axis=2)
    return means
