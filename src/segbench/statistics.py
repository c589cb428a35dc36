"""Statistics: how sure a mean is, when images come in groups and runs in seeds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
"""(R, N): a score for each run and image; NaN where an image has none."""


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float


def resampled_means(
    scores: Scores, groups: NDArray[np.str_], num_resamples: int, seed: int
) -> Scores:
    """Means of bootstrap samples that draw whole groups of images, and runs.

    Drawing groups, not images, since frames of one video are near copies: an interval over images
    would claim to know more than the data tell. With the same groups and seed, the same groups are
    drawn, so that the means of two candidates can be compared pair by pair.

    Args:
        scores: of one candidate.
        groups: (N,), the group of each image.
        num_resamples: how many.
        seed: of the draws.

    Returns:
        (num_resamples,) means over the scores that are there.
    """
    names, index = np.unique(groups, return_inverse=True)
    there = ~np.isnan(scores)
    sums, counts = np.zeros((2, len(scores), len(names)))
    for run in range(len(scores)):
        sums[run] = np.bincount(index, np.where(there[run], scores[run], 0), len(names))
        counts[run] = np.bincount(index, there[run], len(names))
    group_rng, run_rng = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    group_draws = group_rng.multinomial(
        len(names), np.full(len(names), 1 / len(names)), num_resamples
    )
    run_draws = run_rng.multinomial(
        len(scores), np.full(len(scores), 1 / len(scores)), num_resamples
    )
    total = np.einsum("br,rg,bg->b", run_draws, sums, group_draws)
    number = np.einsum("br,rg,bg->b", run_draws, counts, group_draws)
    with np.errstate(invalid="ignore"):
        return total / number


def interval(means: Scores, mean: float, confidence: float) -> Interval:
    """The percentile interval of resampled means around the mean of the data."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))
