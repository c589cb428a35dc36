"""Differences to one champion over several data sets.

Two claims that are never mixed:

- *On these data sets*: the mean difference over exactly these. Only what varies within each is
  uncertain, as far as its design shows it.
- *On data sets like these*: they are a sample of others, on which differences may be others
  (random effects). Each brings trainings of its own, so it holds for encoders trained anew.

Each claim is tested as one family (max-T, step-down) of all candidates against the champion.
statsmodels has the random-effects mean of one difference, not of a family; tests hold ours to it.
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
"""Variance of a difference that does not vary at all, so that weights stay finite."""


@dataclass(frozen=True)
class Claim:
    """A mean difference; its interval and p agree, and hold for all of the family together."""

    interval: Interval
    p: float


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
    number, candidates = len(gaps), gaps.shape[1] + 1
    chances = num_resamples, seed
    even = np.full(gaps.shape, 1 / number)
    known = _known(gaps, errors, degrees, even, np.zeros(candidates - 1))
    these = _claims(known.centres, _together(known, confidence, *chances), confidence)
    if number < FEWEST_DATASETS:
        return [Across(claim, None, np.nan) for claim in these]
    spreads = np.array([spread_between(*pair) for pair in zip(gaps.T, errors.T, strict=True)])
    weights = 1 / (np.maximum(errors**2, TINY) + spreads**2)
    weights /= weights.sum(axis=0)
    known = _known(gaps, errors, degrees, weights, spreads)
    shown = _shown(gaps, weights, confidence, *chances)
    # Differences that happen to agree between data sets bound too tightly: no tighter than what is
    # known within these (Jackson et al. 2017), which each is held to by itself.
    alone = _each(known, confidence)
    both = Tested(
        np.maximum(alone.p, shown.p),
        np.minimum(alone.low, shown.low),
        np.maximum(alone.high, shown.high),
    )
    like_these = _claims(known.centres, both, confidence)
    return [Across(*found) for found in zip(these, like_these, spreads.tolist(), strict=True)]


def _claims(centres: Floats, tested: Tested, confidence: float) -> list[Claim]:
    return [
        Claim(compatible(float(centre), tested, at, confidence), float(tested.p[at]))
        for at, centre in enumerate(centres)
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
    """Weighted means (P,), their errors as known from within the data sets, and the t of these."""

    centres: Floats
    error: Floats
    free: Floats

    @property
    def tail(self) -> Floats:
        """One-sided p of each for itself."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = stdtr(self.free, -np.abs(self.centres) / self.error)
        return found

    def tested(self, p: Floats, tail: float) -> Tested:
        """With the bounds that leave out this probability on either side."""
        reach = -stdtrit(self.free, tail) * self.error
        return Tested(p, self.centres - reach, self.centres + reach)


def _known(
    gaps: Floats, errors: Floats, degrees: Floats, weights: Floats, spreads: Floats
) -> _Known:
    parts = weights**2 * errors**2
    own = parts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        free = own**2 / (parts**2 / degrees).sum(axis=0)
    return _Known(
        (weights * gaps).sum(axis=0),
        np.sqrt(own + (weights**2).sum(axis=0) * spreads**2),
        np.where(own > 0, free, degrees.min(axis=0)),
    )


def _together(known: _Known, confidence: float, num_resamples: int, seed: int) -> Tested:
    """As a family; as normal numbers of the same p, since degrees of freedom differ."""
    family = Family(-ndtri(known.tail), exact=False)
    for draws in normal_draws(len(known.centres) + 1, num_resamples, seed):
        family.add(np.abs(draws[:, 1:] - draws[:, :1]) / np.sqrt(2))
    return known.tested(family.p(), float(ndtr(-family.critical(confidence))))


def _each(known: _Known, confidence: float) -> Tested:
    return known.tested(np.nan_to_num(2 * known.tail, nan=1.0), (1 - confidence) / 2)


def _shown(
    gaps: Floats, weights: Floats, confidence: float, num_resamples: int, seed: int
) -> Tested:
    """As a family, with the errors that the data sets show (Hartung and Knapp 2001)."""
    number, rivals = gaps.shape
    centres = (weights * gaps).sum(axis=0)
    error = np.sqrt((weights * (gaps - centres) ** 2).sum(axis=0) / (number - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        family = Family(np.abs(centres) / error, exact=False)
    # Few data sets bound each error badly, so that draws have errors of their own.
    for draws in normal_draws(number * (rivals + 1), num_resamples, seed):
        each = draws.reshape(-1, number, rivals + 1)
        apart = each[:, :, 1:] - each[:, :, :1]
        family.add(np.abs(apart.mean(axis=1)) / (apart.std(axis=1, ddof=1) / np.sqrt(number)))
    reach = family.critical(confidence) * error
    return Tested(family.p(), centres - reach, centres + reach)
