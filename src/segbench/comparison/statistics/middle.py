"""Interquartile means: of the middle half of all scores, which no easy or hopeless part sways.

As Agarwal et al. (2021) take it over runs and tasks; here of groups of images and data sets.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    scores = np.concatenate(parts, axis=1)
    sizes = [part.shape[1] for part in parts]
    found = _middle_means(scores, [np.ones((1, size)) for size in sizes])[0]
    rng = np.random.default_rng([seed, 7])
    drawn = []
    for start in range(0, num_resamples, BATCH):
        number = min(BATCH, num_resamples - start)
        times = [rng.multinomial(size, np.full(size, 1 / size), number) for size in sizes]
        drawn.append(_middle_means(scores, times))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
    return [
        Interval(float(mean), float(min(a, mean)), float(max(b, mean)))
        for mean, a, b in zip(found, low, high, strict=True)
    ]


def _middle_means(scores: Floats, times: Sequence[NDArray[Any]]) -> Floats:
    """(b, C) of scores (C, N), of which each is there so many times: (b, G) by data set."""
    weights = np.concatenate([own / (own.shape[1] * len(times)) for own in times], axis=1)
    found = np.empty((len(weights), len(scores)))
    for at, own in enumerate(scores):
        order = np.argsort(own, kind="stable")
        shares = weights[:, order]
        upper = shares.cumsum(axis=1)
        kept = np.clip(np.minimum(upper, 0.75) - np.maximum(upper - shares, 0.25), 0, None)
        found[:, at] = kept @ own[order] / kept.sum(axis=1)
    return found
