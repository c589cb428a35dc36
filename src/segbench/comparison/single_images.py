"""Scores of single images: what a mean hides, and what it owes to the rule for empty images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.comparison.ranking import Ranking
from segbench.comparison.scores import column_arrays, score_array
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Floats, Panel
from segbench.comparison.statistics.uncertainty import intervals
from segbench.evaluation.results import RunResult

WORST = 0.1
"""Share of the images, the worst ones, whose mean score is shown."""


def rules_of(ranking: Ranking) -> dict[str, str]:
    """Rules for images in which there is nothing, and what they mean."""
    best = f"count as {ranking.best:g}"
    return {
        "left out": "An image that is empty in truth and prediction is left out, as above.",
        best: f"Such an image counts as {ranking.best:g}, as right as can be.",
        "objects only": "All images without an object are left out, whatever is predicted in them.",
    }


@dataclass(frozen=True)
class SingleImages:
    """How scores spread over test images, for C candidates in order.

    Attributes:
        scores: (C, N) mean over seeds; NaN where an image has none.
        median, worst: (C,) median, and mean of the worst tenth.
        empty: test images without an object.
        left_empty: of each candidate, the share of these in which it predicts nothing, with its
            interval; none if there are none.
        by_rule: (C,) mean score by rule for images in which there is nothing; see `rules_of`.
    """

    scores: Floats
    median: Floats
    worst: Floats
    empty: int
    left_empty: list[Interval]
    by_rule: dict[str, Floats]


def spread_over_images(
    runs: list[RunResult], aliases: Sequence[str], ranking: Ranking, confidence: float
) -> SingleImages:
    """How the scores of candidates spread over test images.

    Args:
        runs: of all candidates.
        aliases: C candidates, in order.
        ranking: the metric.
        confidence: of each interval for itself.
    """
    values, groups, folds, weights = score_array(runs, aliases, "test", ranking)
    found = column_arrays(runs, aliases, "test", ["dice", "object_size"])
    is_empty = (found["object_size"].values == 0).all(axis=(0, 1))
    none_left = np.isnan(found["dice"].values)  # which has no value where both are empty
    scores = _mean(values, axis=1)
    left_empty = []
    if is_empty.any():
        own = none_left[:, :, is_empty].astype(float)
        left_empty = intervals(Panel(own, groups[is_empty], folds[is_empty]), confidence)
    weights = np.ones_like(values) if weights is None else weights
    as_right = np.where(none_left & is_empty & np.isnan(values), ranking.best, values)
    no_object = np.where(is_empty, np.nan, values)
    return SingleImages(
        scores=scores,
        median=np.array([np.nanmedian(own) for own in scores]),
        worst=np.array([ranking.upward(_worst(ranking.upward(own))) for own in scores]),
        empty=int(is_empty.sum()),
        left_empty=left_empty,
        by_rule=dict(
            zip(
                rules_of(ranking),
                (_weighted_mean(part, weights) for part in (values, as_right, no_object)),
                strict=True,
            )
        ),
    )


def _mean(values: Floats, axis: int) -> Floats:
    """Mean of what is not NaN; NaN where all is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(there, values, 0.0).sum(axis=axis) / there.sum(axis=axis)
    return found


def _weighted_mean(values: Floats, weights: Floats) -> Floats:
    """(C,) of what is not NaN, from (C, S, N)."""
    there = np.where(np.isnan(values), 0.0, weights)
    with np.errstate(invalid="ignore"):
        found: Floats = (np.nan_to_num(values) * there).sum(axis=(1, 2)) / there.sum(axis=(1, 2))
    return found


def _worst(scores: Floats) -> Floats:
    """Mean of the worst of scores of which higher is better."""
    known = np.sort(scores[~np.isnan(scores)])
    found: Floats = known[: max(1, int(np.ceil(WORST * len(known))))].mean()
    return found


def ranks(values: NDArray[np.float64], lower_is_better: bool = False) -> list[int | None]:
    """1 plus the number of candidates whose mean is better; None without one.

    Args:
        values: (C,).
        lower_is_better: of a distance or an error.
    """
    better = np.nan_to_num(-values if lower_is_better else values, nan=-np.inf)
    return [
        None if np.isnan(value) else 1 + int((better > own).sum())
        for value, own in zip(values, better, strict=True)
    ]
