"""Encoders trained anew: t tests over groups of images and seeds, or over folds."""

from collections.abc import Iterator

import numpy as np
from scipy.special import chdtri, stdtr, stdtrit

from segbench.comparison.statistics.family import Family, Tested, normal_draws, random_flips
from segbench.comparison.statistics.panel import Floats, Numbers, Panel, design_of
from segbench.comparison.statistics.spread import Spread

_Draws = tuple[Floats, Floats]
"""Means (b, C) of draws, and variances and covariances of such means (b or 1, C, C)."""
VANISHING = 1e-12
"""Share of a candidate's variance below which that of a difference is rounding alone."""


def t_test(
    panel: Panel,
    first: Numbers,
    second: Numbers,
    spread: Spread,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> Tested:
    """t tests whose largest is compared with the largest that chance makes of all.

    What the tests have in common is taken from the groups of images. Where degrees of freedom
    differ, statistics are first brought to common ones, at equal p.
    """
    gaps = panel.means[first] - panel.means[second]
    by_fold = design_of(panel) == "folds"
    common = panel.num_folds - 1.0 if by_fold else float(np.median(spread.degrees))
    family = Family(-stdtrit(common, spread.tail(gaps)), exact=False)
    drawn = (
        _drawn_by_fold(panel, num_resamples, seed)
        if by_fold
        else _drawn_together(panel, common, num_resamples, seed)
    )
    for means, between in drawn:
        own = between.diagonal(axis1=1, axis2=2)
        variance = own[:, first] + own[:, second] - 2 * between[:, first, second]
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(np.where(variance > VANISHING * own[:, first], variance, np.inf))
        family.add(np.abs(means[:, first] - means[:, second]) / error)
    reach = spread.reach(stdtr(common, -family.critical(confidence)))
    return Tested(family.p(), gaps - reach, gaps + reach)


def _drawn_together(panel: Panel, degrees: float, number: int, seed: int) -> Iterator[_Draws]:
    """Of a multivariate t: one variance for all."""
    influences = panel.groups.influences
    between = influences @ influences.T
    rng = np.random.default_rng([seed, 4])
    for draws in normal_draws(panel.num_groups, number, seed):
        scale = np.sqrt(chdtri(degrees, rng.random((len(draws), 1))) / degrees)
        yield draws @ influences.T / scale, between[None]


def _drawn_by_fold(panel: Panel, number: int, seed: int) -> Iterator[_Draws]:
    """Of folds made anew from the same groups, whose signs are flipped.

    Each draw has the variances of its own: of few folds they differ much from pair to pair, which
    makes the largest of many statistics larger than one common variance would. Where most of a
    difference comes from few groups, as where images are found or missed, so does most of its
    variance, and chance makes smaller statistics than of normal numbers.
    """
    influences, folds = panel.groups.influences, panel.num_folds
    fold_of = np.arange(panel.num_groups) % folds
    rng = np.random.default_rng([seed, 6])
    for signs in random_flips(panel.num_groups, number, seed):
        places = rng.permuted(np.broadcast_to(fold_of, signs.shape), axis=1)
        in_fold = places[:, None] == np.arange(folds)[:, None]
        moved = (signs[:, None] * in_fold) @ influences.T
        means = moved.mean(axis=1)
        apart = moved - means[:, None]
        yield means, apart.transpose(0, 2, 1) @ apart / (folds * (folds - 1))
