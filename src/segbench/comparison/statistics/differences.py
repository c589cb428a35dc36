"""Differences between candidates, tested as a family, in the strongest claim of the design.

Two claims that are never mixed:

- *These networks*: other images would show the same. Only groups of images vary.
- *Encoders trained anew*: networks of these encoders that are trained again would show it too.
  Seeds vary, and with folds the training sets. Without at least three of either the design cannot
  show how much, and the claim is not made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, stdtr, stdtrit

from segbench.comparison.statistics.family import EXACT, Family, normal_draws, sign_flips
from segbench.comparison.statistics.panel import Floats, Panel, jackknife

FEWEST_SEEDS = 3
"""On one split: two seeds that happen to agree cannot be told from a steady encoder. In simulation
13 % of experiments then declare a false difference, where one of two candidates is unsteady."""
FEWEST_FOLDS = 3
"""With fewer, an interval of folds reaches over all scores there are."""

Design = Literal["one training", "seeds", "folds"]


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
    def turned(self) -> "Difference":
        """The same difference with the candidates swapped."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            interval=self.interval.turned,
            of_networks=self.of_networks.turned,
        )


def design_of(panel: Panel) -> Design:
    """What lets trainings vary: folds, else seeds, else nothing that can be told."""
    if panel.num_folds >= FEWEST_FOLDS:
        return "folds"
    return "seeds" if panel.num_folds == 1 and panel.num_seeds >= FEWEST_SEEDS else "one training"


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
    images = _of_images(panel, first, second, confidence, num_resamples, seed)
    spread = _spread(panel, first, second)
    tested = images
    if design_of(panel) != "one training":
        trained = _of_trainings(panel, first, second, spread, confidence, num_resamples, seed)
        tested = _Tested(
            np.maximum(images.p, trained.p),
            np.minimum(images.low, trained.low),
            np.maximum(images.high, trained.high),
        )
    degrees = spread.degrees
    return [
        Difference(
            int(first[at]),
            int(second[at]),
            _compatible(float(gaps[at]), tested, at, confidence),
            float(tested.p[at]),
            _compatible(float(gaps[at]), images, at, confidence),
            float(images.p[at]),
            float(tested.high[at] - tested.low[at]) / 2,
            {name: float(part[at]) for name, (part, _) in spread.parts.items()},
            float(degrees[at]),
        )
        for at in range(len(pairs))
    ]


@dataclass(frozen=True)
class _Tested:
    """p and bounds (P,) of a family."""

    p: Floats
    low: Floats
    high: Floats


def _compatible(gap: float, tested: _Tested, at: int, confidence: float) -> Interval:
    """Bounds that agree with the step-down p, which finds more than one step for all.

    Where p is significant, bounds on both sides of 0 become one that ends there: its sign is what
    the step-down test shows (Strassburger and Bretz 2008). Else they hold 0, also if it is the
    bound, but for rounding.
    """
    low, high = float(tested.low[at]), float(tested.high[at])
    if not tested.p[at] < 1 - confidence:
        return Interval(gap, min(low, 0.0), max(high, 0.0))
    if low <= 0 <= high:
        return Interval(gap, 0.0, high) if high > -low else Interval(gap, low, 0.0)
    return Interval(gap, low, high)


def _of_images(
    panel: Panel,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    confidence: float,
    num_resamples: int,
    seed: int,
) -> _Tested:
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
    return _Tested(family.p(), low, high)


@dataclass(frozen=True)
class Spread:
    """What means, or differences of them, vary with.

    Attributes:
        parts: variances (P,) and their degrees of freedom (P,) by what varies.
        caution: from 0, one t distribution with Satterthwaite's degrees of freedom, to 1, a t
            quantile for each component (Cochran and Cox), which holds however uneven they are.
    """

    parts: dict[str, tuple[Floats, Floats]]
    caution: float

    @property
    def error(self) -> Floats:
        """(P,) standard errors."""
        return np.sqrt(np.sum([variance for variance, _ in self.parts.values()], axis=0))

    @property
    def degrees(self) -> Floats:
        """(P,) of freedom of the errors, after Satterthwaite."""
        shares = [variance**2 / free for variance, free in self.parts.values()]
        with np.errstate(invalid="ignore", divide="ignore"):
            inverse = np.sum(shares, axis=0)
            fewest = np.min([free for _, free in self.parts.values()], axis=0)
            found: Floats = np.where(inverse > 0, self.error**4 / inverse, fewest)
        return found

    def reach(self, tail: Floats | float) -> Floats:
        """(P,) what chance alone exceeds with this probability on either side."""
        one = (stdtrit(self.degrees, tail) * self.error) ** 2
        each = np.sum(
            [stdtrit(free, tail) ** 2 * variance for variance, free in self.parts.values()], axis=0
        )
        found: Floats = np.sqrt(np.maximum(one, (1 - self.caution) * one + self.caution * each))
        return found

    def tail(self, gaps: Floats) -> Floats:
        """(P,) the probability at which `reach` is as far as a difference; by bisection."""
        low, high = np.full(len(gaps), -300.0), np.full(len(gaps), np.log10(0.5))
        for _ in range(60):
            middle = (low + high) / 2
            farther = self.reach(10**middle) < np.abs(gaps)
            low, high = np.where(farther, low, middle), np.where(farther, middle, high)
        found: Floats = 10**high
        return found


def _spread(panel: Panel, first: NDArray[np.int64], second: NDArray[np.int64]) -> Spread:
    """By fold where the claim is about folds, since images and trainings both vary with them; else
    by groups of images, and where the claim is about seeds by those of both."""
    if design_of(panel) == "folds":
        return Spread({"folds": jackknife(panel.folds, first, second)}, 0.0)
    parts = {"images": jackknife(panel.groups, first, second)}
    if design_of(panel) == "one training":
        return Spread(parts, 0.0)
    variances, degrees = panel.seed_variances
    parts["its seeds"] = variances[first], degrees[first]
    parts["the other's seeds"] = variances[second], degrees[second]
    # The fewer candidates, the less their pooled variance says of one that is unsteady.
    return Spread(parts, 0.5 / max(len(panel.means) - 1, 1))


def _of_trainings(
    panel: Panel,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    spread: Spread,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> _Tested:
    """t tests whose largest is compared with the largest that chance makes of all.

    What the tests have in common is taken from the groups of images. Where degrees of freedom
    differ, statistics are first brought to common ones, at equal p.
    """
    gaps = panel.means[first] - panel.means[second]
    by_fold = design_of(panel) == "folds"
    common = panel.num_folds - 1.0 if by_fold else float(np.median(spread.degrees))
    family = Family(-stdtrit(common, spread.tail(gaps)), exact=False)
    make = _drawn_by_fold if by_fold else _drawn_together
    for drawn in make(panel, first, second, common, num_resamples, seed):
        family.add(np.abs(drawn))
    reach = spread.reach(stdtr(common, -family.critical(confidence)))
    return _Tested(family.p(), gaps - reach, gaps + reach)


def _drawn_together(
    panel: Panel,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    degrees: float,
    number: int,
    seed: int,
) -> Iterator[Floats]:
    """Statistics (b, P) of a multivariate t."""
    influences = panel.groups.influences
    norm = np.sqrt(((influences[first] - influences[second]) ** 2).sum(axis=1))
    norm = np.where(norm > 0, norm, np.inf)
    rng = np.random.default_rng([seed, 4])
    for draws in normal_draws(panel.num_groups, number, seed):
        moved = draws @ influences.T
        scale = np.sqrt(chdtri(degrees, rng.random((len(draws), 1))) / degrees)
        yield (moved[:, first] - moved[:, second]) / norm / scale


def _drawn_by_fold(
    panel: Panel,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    degrees: float,
    number: int,
    seed: int,
) -> Iterator[Floats]:
    """Statistics (b, P) of drawn folds, each pair with the variance of its own.

    Of few folds the variances differ much from pair to pair, which makes the largest of many
    statistics larger than one common variance would.
    """
    influences, folds = panel.groups.influences, int(degrees) + 1
    for draws in normal_draws(folds * panel.num_groups, number, seed):
        moved = draws.reshape(-1, folds, panel.num_groups) @ influences.T
        means = moved.mean(axis=1)
        apart = moved - means[:, None]
        between = apart.transpose(0, 2, 1) @ apart / degrees  # (b, C, C)
        own = between.diagonal(axis1=1, axis2=2)
        variance = own[:, first] + own[:, second] - 2 * between[:, first, second]
        with np.errstate(invalid="ignore", divide="ignore"):
            yield (means[:, first] - means[:, second]) / np.sqrt(variance / folds)
