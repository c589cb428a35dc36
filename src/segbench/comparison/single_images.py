"""Scores of single images: what a mean hides, and what it owes to the rule for empty images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Floats, Panel
from segbench.comparison.statistics.uncertainty import intervals
from segbench.evaluation.results import RunResult, column_arrays

WORST = 0.1
"""Share of the images, the worst ones, whose mean score is shown."""
RULES = {
    "left out": "An image that is empty in truth and prediction is left out, as above.",
    "count as 1": "Such an image counts as 1, as right as can be.",
    "objects only": "All images without an object are left out, whatever is predicted in them.",
}
"""Rules for images in which there is nothing, and what they mean."""


@dataclass(frozen=True)
class SingleImages:
    """How scores spread over test images, for C candidates in order.

    Attributes:
        scores: (C, N) mean over seeds; NaN where an image has none.
        median, worst: (C,) median, and mean of the worst tenth.
        empty: test images without an object.
        left_empty: of each candidate, the share of these in which it predicts nothing, with its
            interval; none if there are none.
        by_rule: (C,) mean score by rule for images in which there is nothing; see `RULES`.
    """

    scores: Floats
    median: Floats
    worst: Floats
    empty: int
    left_empty: list[Interval]
    by_rule: dict[str, Floats]


def spread_over_images(
    runs: list[RunResult], aliases: Sequence[str], metric: str, confidence: float
) -> SingleImages:
    """How the scores of candidates spread over test images.

    Args:
        runs: of all candidates.
        aliases: C candidates, in order.
        metric: a column of the rows of images, whose empty images have no score.
        confidence: of each interval for itself.
    """
    found = column_arrays(runs, aliases, "test", [metric, "object_size"])
    values, groups, folds = found[metric]
    is_empty = (found["object_size"].values == 0).all(axis=(0, 1))
    none_left = np.isnan(values)
    scores = _mean(values, axis=1)
    left_empty = []
    if is_empty.any():
        own = none_left[:, :, is_empty].astype(float)
        left_empty = intervals(Panel(own, groups[is_empty], folds[is_empty]), confidence)
    with np.errstate(invalid="ignore"):
        as_right = np.where(none_left & is_empty, 1.0, values)
    return SingleImages(
        scores=scores,
        median=np.array([np.nanmedian(own) for own in scores]),
        worst=np.array([_worst(own) for own in scores]),
        empty=int(is_empty.sum()),
        left_empty=left_empty,
        by_rule=dict(
            zip(
                RULES,
                (_mean(part, axis=(1, 2)) for part in (values, as_right, values[:, :, ~is_empty])),
                strict=True,
            )
        ),
    )


def _mean(values: Floats, axis: int | tuple[int, ...]) -> Floats:
    """Mean of what is not NaN; NaN where all is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(there, values, 0.0).sum(axis=axis) / there.sum(axis=axis)
    return found


def _worst(scores: Floats) -> float:
    known = np.sort(scores[~np.isnan(scores)])
    return float(known[: max(1, int(np.ceil(WORST * len(known))))].mean())


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
