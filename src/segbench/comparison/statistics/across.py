"""Differences to one champion over several data sets.

Two claims that are never mixed:

- *On these data sets*: the mean difference over exactly these. Only what varies within each is
  uncertain, as far as its design shows it.
- *On data sets like these*: they are a sample of others, on which differences may be others
  (random effects). Each brings trainings of its own, so it holds for encoders trained anew.

Both are of the plain mean, so that they differ in nothing but what they take for uncertain. Weights
by precision would make the second narrower, but where errors differ threefold and there are few
data sets, they declare 6 to 10 % false differences at 5 %; plain means declare at most 5 %.

Each claim is tested as one family (max-T, step-down) of all candidates against the champion.
statsmodels has the random-effects mean of one difference, not of a family; tests hold the spread
between data sets to it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from segbench.comparison.statistics.differences import Interval, compatible
from segbench.comparison.statistics.family import Family, Tested, normal_draws
from segbench.comparison.statistics.panel import Floats

FEWEST_DATASETS = 3
"""Of a claim on data sets like these: two say next to nothing of how much differences vary."""
TINY = 1e-18
"""Variance of a difference that does not vary at all, so that nothing is divided by 0."""


@dataclass(frozen=True)
class Claim:
    """A mean difference; its interval and p agree, and hold for all of the family together."""

    interval: Interval
    p: float

    @property
    def negated(self) -> "Claim":
        """If all scores are taken negative."""
        return Claim(self.interval.turned, self.p)


@dataclass(frozen=True)
class Across:
    """A candidate's difference to the champion over data sets.

    Attributes:
        these: the mean over exactly these data sets, all of the same weight.
        like_these: the mean over data sets like these; None with fewer than `FEWEST_DATASETS`.
        spread: standard deviation of the true difference between data sets, after Paule and Mandel;
            NaN without that claim.
    """

    these: Claim
    like_these: Claim | None
    spread: float


def compare_across(
    gaps: Floats,
    errors: Floats,
    degrees: Floats,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> list[Across]:
    """Differences of P candidates to one champion over K data sets.

    Args:
        gaps: (K, P) differences, of the candidate minus the champion.
        errors: (K, P) their standard errors.
        degrees: (K, P) of freedom of these.
        confidence: of all intervals of a claim together.
        num_resamples: normal draws.
        seed: of these.
    """
    number = len(gaps)
    chances = num_resamples, seed
    known = _known(gaps, errors, degrees)
    these = _claims(known.means, _together(known, confidence, *chances), confidence)
    if number < FEWEST_DATASETS:
        return [Across(claim, None, np.nan) for claim in these]
    shown = _shown(gaps, confidence, *chances)
    # Differences that happen to agree between data sets bound too tightly: no tighter than what is
    # known within these, which each is held to by itself.
    alone = _each(known, confidence)
    both = Tested(
        np.maximum(alone.p, shown.p),
        np.minimum(alone.low, shown.low),
        np.maximum(alone.high, shown.high),
    )
    like_these = _claims(known.means, both, confidence)
    spreads = [spread_between(*pair) for pair in zip(gaps.T, errors.T, strict=True)]
    return [Across(*found) for found in zip(these, like_these, spreads, strict=True)]


def _claims(means: Floats, tested: Tested, confidence: float) -> list[Claim]:
    return [
        Claim(compatible(float(mean), tested, at, confidence), float(tested.p[at]))
        for at, mean in enumerate(means)
    ]


def spread_between(gaps: Floats, errors: Floats) -> float:
    """Standard deviation of the true difference between data sets (Paule and Mandel 1982).

    Args:
        gaps: (K,) differences, of at least two data sets.
        errors: (K,) their standard errors.
    """
    variances = np.maximum(errors**2, TINY)

    def excess(between: float) -> float:
        weights = 1 / (variances + between)
        mean = (weights * gaps).sum() / weights.sum()
        return float((weights * (gaps - mean) ** 2).sum()) - (len(gaps) - 1)

    if excess(0.0) <= 0:
        return 0.0
    # There each weighted square is at most its unweighted one.
    most = float(((gaps - gaps.mean()) ** 2).sum()) / (len(gaps) - 1)
    return float(np.sqrt(brentq(excess, 0.0, most, xtol=1e-15)))


@dataclass(frozen=True)
class _Known:
    """Means (P,), their errors as known from within the data sets, and degrees of freedom."""

    means: Floats
    error: Floats
    free: Floats

    @property
    def tail(self) -> Floats:
        """One-sided p of each for itself."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = stdtr(self.free, -np.abs(self.means) / self.error)
        return found

    def tested(self, p: Floats, tail: float) -> Tested:
        """With the bounds that leave out this probability on either side."""
        reach = -stdtrit(self.free, tail) * self.error
        return Tested(p, self.means - reach, self.means + reach)


def _known(gaps: Floats, errors: Floats, degrees: Floats) -> _Known:
    parts = (errors / len(gaps)) ** 2
    variance = parts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        free = variance**2 / (parts**2 / degrees).sum(axis=0)  # Satterthwaite
    return _Known(
        gaps.mean(axis=0), np.sqrt(variance), np.where(variance > 0, free, degrees.min(axis=0))
    )


def _together(known: _Known, confidence: float, num_resamples: int, seed: int) -> Tested:
    """As a family; as normal numbers of the same p, since degrees of freedom differ."""
    family = Family(-ndtri(known.tail), exact=False)
    for draws in normal_draws(len(known.means) + 1, num_resamples, seed):
        family.add(np.abs(draws[:, 1:] - draws[:, :1]) / np.sqrt(2))
    return known.tested(family.p(), float(ndtr(-family.critical(confidence))))


def _each(known: _Known, confidence: float) -> Tested:
    return known.tested(np.nan_to_num(2 * known.tail, nan=1.0), (1 - confidence) / 2)


def _shown(gaps: Floats, confidence: float, num_resamples: int, seed: int) -> Tested:
    """As a family of t tests over data sets, with the errors that these show themselves."""
    number, rivals = gaps.shape
    means, errors = _mean_and_error(gaps[None])
    with np.errstate(invalid="ignore", divide="ignore"):
        family = Family(np.abs(means[0]) / errors[0], exact=False)
    # Few data sets bound each error badly, so that draws have errors of their own.
    for draws in normal_draws(number * (rivals + 1), num_resamples, seed):
        each = draws.reshape(-1, number, rivals + 1)
        mean, error = _mean_and_error(each[:, :, 1:] - each[:, :, :1])
        family.add(np.abs(mean) / error)
    reach = family.critical(confidence) * errors[0]
    return Tested(family.p(), means[0] - reach, means[0] + reach)


def _mean_and_error(gaps: Floats) -> tuple[Floats, Floats]:
    """(b, P) each, of differences (b, K, P)."""
    error: Floats = gaps.std(axis=1, ddof=1) / np.sqrt(gaps.shape[1])
    return gaps.mean(axis=1), error
