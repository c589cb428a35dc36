"""Scores of candidates on the same images, summed over the units that vary.

Images of a group (frames of a video) are near copies, each seed gives another network, and all
networks of a fold share a training set. So groups, seeds and folds, not images, are the units of
all statistics here. Legend: C candidates, S seeds, K folds, N images, G groups, U units of a kind,
P pairs of candidates, B resamples.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

FEWEST_SEEDS = 3
"""On one split: two seeds that happen to agree cannot be told from a steady encoder. In simulation
13 % of experiments then declare a false difference, where one of two candidates is unsteady."""
FEWEST_FOLDS = 3
"""With fewer, an interval of folds reaches over all scores there are."""

FEWEST_GROUPS = 6
"""Of equal size, for seeds to speak of trainings: with fewer, their variance cannot be told from
that of groups, and in simulation intervals of 95 % then hold in more than 99 % of experiments."""
FEWEST_GROUPS_OF_MISSES = 40
"""Likewise, where many images score far from the mean, so that few groups decide."""
MISSED, OFTEN = 0.5, 0.05
"""A score below this share of a candidate's mean, or over the mean divided by it, is far from it; a
comparison has misses if more than this share of scores are. So it does whichever way is better."""

Design = Literal["one training", "seeds", "folds"]


@dataclass(frozen=True)
class Units:
    """What groups, or folds, add to the means of candidates.

    Attributes:
        parts: (C, U) what each adds to the mean; they sum to it.
        weights: (C, U) share of the scores that are of it; they sum to 1.
    """

    parts: Floats
    weights: Floats

    @property
    def number(self) -> int:
        """U."""
        return self.parts.shape[1]

    @property
    def influences(self) -> Floats:
        """(C, U): by how much each moves the mean; they sum to 0."""
        found: Floats = self.parts - self.parts.sum(axis=1, keepdims=True) * self.weights
        return found

    @property
    def deviations(self) -> Floats:
        """(C, U): influences, each enlarged by what it takes from its own deviation."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = self.influences / np.sqrt(1 - self.weights)
        return found

    @property
    def effective(self) -> Floats:
        """(C,): how many units of equal size would weigh as evenly."""
        found: Floats = 1 / (self.weights**2).sum(axis=1)
        return found


def cluster_variance(
    units: Units, first: NDArray[np.int64], second: NDArray[np.int64] | None = None
) -> tuple[Floats, Floats]:
    """Variances (P,) of means, or of their differences, and degrees of freedom (P,).

    Without bias where units are unequal (CR2, Bell and McCaffrey 2002); of equal ones it is the
    jackknife's.

    Args:
        units: that vary.
        first: (P,) candidates.
        second: (P,) those that are subtracted.
    """
    deviations, effective = units.deviations[first], units.effective[first]
    if second is not None:
        deviations = deviations - units.deviations[second]
        effective = np.minimum(effective, units.effective[second])
    variance: Floats = (deviations**2).sum(axis=1)
    return variance, np.maximum(effective - 1, 0.5)


class Panel:
    """Scores by candidate, seed and image, summed by group and by fold.

    Groups in which no candidate has a score say nothing and are left out.

    Attributes:
        groups, folds: what each adds.
        num_groups, num_seeds, num_folds: G, S and K.
        means: (C,) over all scores that are not NaN.
        seed_means: (C, S), likewise of each seed.
        has_misses: many images score far from the mean, as where they are found or missed.
    """

    def __init__(
        self,
        scores: Floats,
        groups: NDArray[np.str_],
        folds: NDArray[np.int64],
        weights: Floats | None = None,
    ) -> None:
        """
        Args:
            scores: (C, S, N), NaN where an image has none.
            groups: (N,), the group of each image.
            folds: (N,), the fold in which it is a test image.
            weights: (C, S, N) of the scores, as in a ratio of sums, which is a mean of ratios
                weighted by their denominators; None where all weigh the same.
        """
        there = ~np.isnan(scores)
        kept = there.any(axis=(0, 1))
        there, scores = there[:, :, kept], np.where(there, scores, 0.0)[:, :, kept]
        self.has_misses = _has_misses(scores, there)
        if weights is not None:
            there = np.where(there, weights[:, :, kept], 0.0)
            scores = scores * there
        sums, counts = _sums(scores, there, groups[kept])
        total = counts.sum((1, 2))[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            self.seed_means: Floats = sums.sum(2) / counts.sum(2)
            self.groups = Units(sums.sum(1) / total, counts.sum(1) / total)
            self.seed_noise = _seed_noise(sums / counts.sum(2)[:, :, None], counts)
            sums, counts = _sums(scores, there, folds[kept])
            self.folds = Units(sums.sum(1) / total, counts.sum(1) / total)
        self.num_groups, self.num_folds = self.groups.number, self.folds.number
        self.num_seeds = scores.shape[1]
        self.means: Floats = self.groups.parts.sum(axis=1)

    @property
    def seed_variances(self) -> tuple[Floats, Floats]:
        """(C,) variance of a candidate's mean due to its seeds, and its degrees of freedom."""
        return _own_or_pooled(self.seed_means, float(self.num_seeds - 1), self.seed_noise)

    @property
    def paired_seed_variances(self) -> tuple[Floats, Floats]:
        """Likewise, for differences; see `paired_variances`."""
        return paired_variances(self.seed_means, self.seed_noise)


def _has_misses(scores: Floats, there: NDArray[np.bool_]) -> bool:
    number = np.maximum(there.sum(axis=(1, 2), keepdims=True), 1)
    means = np.abs(scores.sum(axis=(1, 2), keepdims=True) / number)
    far = (np.abs(scores) < MISSED * means) | (np.abs(scores) > means / MISSED)
    return bool((there & far).sum() > OFTEN * there.sum())


def _seed_noise(parts: Floats, counts: Floats) -> Floats:
    """(C,) variance of a candidate's mean from what single groups do in single seeds.

    The variance of groups holds it, and so does that of seeds, where it counts once too often.

    Args:
        parts: (C, S, G) what groups add to the mean of each seed.
        counts: (C, S, G) of their scores.
    """
    seeds, groups = parts.shape[1:]
    if min(seeds, groups) < 2:
        return np.zeros(len(parts))
    weights = counts / counts.sum(axis=2, keepdims=True)
    apart = parts - parts.mean(axis=1, keepdims=True)
    apart = apart - weights * apart.sum(axis=2, keepdims=True)
    found: Floats = (
        (apart**2 / np.maximum(1 - weights, 1e-9)).sum(axis=(1, 2)) / (seeds - 1) / seeds
    )
    return found


def paired_variances(seed_means: Floats, noise: Floats | float = 0.0) -> tuple[Floats, Floats]:
    """(C,) variances of means of seeds (C, S) for differences of them, and degrees of freedom.

    Without what a seed does to all candidates: with it they share the order of batches and the
    augmentation, so that it cancels. C > 1.
    """
    candidates, seeds = seed_means.shape
    # What is taken off holds a share of each candidate itself.
    share = (candidates - 1) / candidates
    apart = (seed_means - np.nanmean(seed_means, axis=0)) / np.sqrt(share)
    return _own_or_pooled(apart, (seeds - 1) * share, noise)


def _own_or_pooled(
    seed_means: Floats, share: float, noise: Floats | float
) -> tuple[Floats, Floats]:
    """Variances (C,) of means of seeds (C, S), and their degrees of freedom.

    The larger of a candidate's own and the pooled one: otherwise seeds that happen to agree would
    make a candidate's lead look certain.

    Args:
        seed_means: (C, S).
        share: degrees of freedom that each candidate adds to the pooled variance.
    """
    candidates, seeds = seed_means.shape
    own = np.maximum(seed_means.var(axis=1, ddof=1) / seeds - noise, 0.0)
    pooled = float(np.nanmean(own))
    is_larger = own > pooled
    return (
        np.where(is_larger, own, pooled),
        np.where(is_larger, float(seeds - 1), share * candidates),
    )


@dataclass(frozen=True)
class GroupLimit:
    """Too few groups of images for seeds to speak of trainings.

    Attributes:
        has: as many groups of equal size they weigh as.
        needs: as many it takes.
        misses: many images score far from the mean, so that it takes more.
    """

    has: float
    needs: int
    misses: bool


def group_limit(panel: Panel) -> GroupLimit | None:
    """Why no number of seeds lets a claim be made about trainings; None if enough do."""
    has = round(float(panel.groups.effective.min()), 6) if panel.num_groups else 0.0
    needs = FEWEST_GROUPS_OF_MISSES if panel.has_misses else FEWEST_GROUPS
    return GroupLimit(has, needs, panel.has_misses) if has < needs else None


def design_of(panel: Panel) -> Design:
    """What lets trainings vary: folds, else seeds, else nothing that can be told."""
    if panel.num_folds >= FEWEST_FOLDS:
        return "folds"
    has_seeds = panel.num_folds == 1 and panel.num_seeds >= FEWEST_SEEDS
    return "seeds" if has_seeds and not group_limit(panel) else "one training"


def _sums(
    scores: Floats, there: NDArray[np.bool_] | Floats, units: NDArray[np.str_] | NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Sums and numbers (or weights) of scores (C, S, U) by unit, from (C, S, N) and the unit of
    each image."""
    _, index = np.unique(units, return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    if not len(starts):
        empty = np.zeros((*scores.shape[:2], 0))
        return empty, empty
    sums: Floats = np.add.reduceat(scores[:, :, order], starts, axis=2)
    counts = np.add.reduceat(there[:, :, order].astype(float), starts, axis=2)
    return sums, counts
