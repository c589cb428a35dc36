"""Differences between candidates, tested as a family, in the strongest claim of the design.

Two claims that are never mixed:

- *These networks*: other images would show the same. Only groups of images vary.
- *Encoders trained anew*: networks of these encoders that are trained again would show it too.
  Seeds vary, and with folds the training sets. Without at least three of either the design cannot
  show how much, and the claim is not made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segbench.comparison.statistics.family import Tested
from segbench.comparison.statistics.panel import Panel, design_of
from segbench.comparison.statistics.spread import spread_of
from segbench.comparison.statistics.swaps import swap_test
from segbench.comparison.statistics.trainings import t_test


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; bounds are NaN if they cannot be estimated."""

    mean: float
    low: float
    high: float

    @property
    def turned(self) -> "Interval":
        """Of the negative value."""
        return Interval(-self.mean, -self.high, -self.low)


@dataclass(frozen=True)
class Difference:
    """Difference between two candidates: the mean of the first minus that of the second.

    Attributes:
        first, second: indices of the candidates.
        interval, p: of the strongest claim that the design allows; simultaneous for all pairs of
            the family, so that p < 1 - confidence where and only where the interval leaves out 0.
            NaN where nothing can be claimed.
        of_networks, p_of_networks: likewise for these networks on other images.
        reach: half the width of the interval before the step-down test shortened it; infinite where
            these data cannot bound a difference.
        components: variance of the difference by what it varies with, each divided by its number.
        degrees: of freedom of the standard error.
    """

    first: int
    second: int
    interval: Interval
    p: float
    of_networks: Interval
    p_of_networks: float
    reach: float
    components: Mapping[str, float]
    degrees: float

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt(sum(self.components.values())))

    @property
    def negated(self) -> "Difference":
        """Of the same candidates, if all scores are taken negative."""
        return replace(self, interval=self.interval.turned, of_networks=self.of_networks.turned)

    @property
    def turned(self) -> "Difference":
        """The same difference with the candidates swapped."""
        return replace(self.negated, first=self.second, second=self.first)


def compare(
    panel: Panel, pairs: NDArray[np.int64], confidence: float, num_resamples: int, seed: int
) -> list[Difference]:
    """Differences of a family of pairs, tested together.

    Of the claim on encoders trained anew, both the test of these networks and that of trainings
    must hold, so p is the larger and the interval the wider of the two.

    Args:
        panel: the scores.
        pairs: (P, 2) indices of candidates.
        confidence: of all intervals together.
        num_resamples: random sign flips and normal draws.
        seed: of these.
    """
    if not len(pairs):
        return []
    first, second = pairs.T
    gaps = panel.means[first] - panel.means[second]
    if panel.num_groups < 2:
        nothing = Interval(np.nan, np.nan, np.nan)
        return [
            Difference(
                int(i), int(j), replace(nothing, mean=float(gap)), np.nan,
                replace(nothing, mean=float(gap)), np.nan, np.inf, {}, np.nan,
            )
            for i, j, gap in zip(first, second, gaps, strict=True)
        ]  # fmt: skip
    images = swap_test(panel, first, second, confidence, num_resamples, seed)
    spread = spread_of(panel, first, second)
    tested = images
    if design_of(panel) != "one training":
        trained = t_test(panel, first, second, spread, confidence, num_resamples, seed)
        tested = Tested(
            np.maximum(images.p, trained.p),
            np.minimum(images.low, trained.low),
            np.maximum(images.high, trained.high),
        )
    degrees = spread.degrees
    return [
        Difference(
            int(first[at]),
            int(second[at]),
            compatible(float(gaps[at]), tested, at, confidence),
            float(tested.p[at]),
            compatible(float(gaps[at]), images, at, confidence),
            float(images.p[at]),
            float(tested.high[at] - tested.low[at]) / 2,
            {name: float(part[at]) for name, (part, _) in spread.parts.items()},
            float(degrees[at]),
        )
        for at in range(len(pairs))
    ]


def compatible(gap: float, tested: Tested, at: int, confidence: float) -> Interval:
    """Bounds that agree with the step-down p, which finds more than one step for all.

    Where p is significant, bounds on both sides of 0 become one that ends there: its sign is what
    the step-down test shows (Strassburger and Bretz 2008). Else they hold 0, also if it is the
    bound, but for rounding.

    Args:
        gap: the difference.
        tested: p and bounds of its family.
        at: its number there.
        confidence: of all intervals together.
    """
    low, high = float(tested.low[at]), float(tested.high[at])
    if not tested.p[at] < 1 - confidence:
        return Interval(gap, min(low, 0.0), max(high, 0.0))
    if low <= 0 <= high:
        return Interval(gap, 0.0, high) if gap > 0 else Interval(gap, low, 0.0)
    return Interval(gap, low, high)
