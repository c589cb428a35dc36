"""Statistics: uncertainty of means and differences, for grouped images and several seeds.

Images of a group (frames of a video) are near copies, and each seed gives a different network, so
groups and seeds, not images, are the units that are resampled, permuted and counted. Legend: C
candidates, S seeds, N images, G groups, B resamples, P pairs of candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

Floats = NDArray[np.float64]
BATCH = 1000
"""Resamples computed at a time, to bound memory."""


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; bounds are NaN if they cannot be estimated."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Difference between two candidates on the same images.

    Attributes:
        first, second: indices of the candidates.
        interval: of the mean of the first minus that of the second.
        p: p-value of the null hypothesis of no difference, Holm-corrected over all pairs.
        min_detectable_difference: smallest true difference that is found with a power of 80 %
            (at the same confidence, for this pair alone).
    """

    first: int
    second: int
    interval: Interval
    p: float
    min_detectable_difference: float

    @property
    def turned(self) -> "Difference":
        """The same difference with the candidates swapped."""
        gap = self.interval
        turned = Interval(-gap.mean, -gap.high, -gap.low)
        return Difference(self.second, self.first, turned, self.p, self.min_detectable_difference)


class Panel:
    """Scores of candidates on the same images, summed by group.

    Attributes:
        means: (C,) over all scores that are not NaN.
        seed_means: (C, S).
        num_groups, num_seeds: G and S.
    """

    def __init__(self, scores: Floats, groups: NDArray[np.str_]) -> None:
        """
        Args:
            scores: (C, S, N), NaN where an image has none.
            groups: (N,), the group of each image.
        """
        names, index = np.unique(groups, return_inverse=True)
        self.num_groups, self.num_seeds = len(names), scores.shape[1]
        belongs = np.zeros((len(groups), len(names)))
        belongs[np.arange(len(groups)), index] = 1
        there = ~np.isnan(scores)
        self._sums = np.where(there, scores, 0) @ belongs  # (C, S, G)
        self._counts = there @ belongs
        with np.errstate(invalid="ignore"):
            self.means = self._sums.sum((1, 2)) / self._counts.sum((1, 2))
            self.seed_means = self._sums.sum(2) / self._counts.sum(2)
            # Influence of each group on a candidate's mean; sums to 0.
            spread = self._sums.sum(1) - self.means[:, None] * self._counts.sum(1)
            self._influence = spread / self._counts.sum((1, 2))[:, None]  # (C, G)
            self._parts = self._sums.sum(1) / self._counts.sum((1, 2))[:, None]  # sums to the mean
        self._of_seeds = _seed_variances(self.seed_means)

    def resampled_means(self, num_resamples: int, seed: int) -> Floats:
        """Bootstrap means (B, C): groups are resampled jointly for all candidates, seeds for each.

        One unit fewer is drawn than there are, which makes the spread of the resampled means
        unbiased (Rao and Wu 1988); drawing all would understate it for few units. A single seed or
        group is always drawn, and adds no spread.
        """
        candidates, seeds, groups = self._sums.shape
        group_rng, seed_rng = (np.random.default_rng([seed, stream]) for stream in (0, 1))
        flat = [part.reshape(-1, groups).T for part in (self._sums, self._counts)]
        found = []
        for start in range(0, num_resamples, BATCH):
            size = min(BATCH, num_resamples - start)
            drawn = _draw(group_rng, groups, (size,)).astype(float)
            runs = _draw(seed_rng, seeds, (size, candidates))
            total, number = (
                ((drawn @ part).reshape(size, candidates, seeds) * runs).sum(-1) for part in flat
            )
            with np.errstate(invalid="ignore"):
                found.append(total / number)
        return np.concatenate(found)

    def variances(self, candidate: int, other: int | None = None) -> list[tuple[float, int]]:
        """Variance components of a mean, or of a difference of two, with degrees of freedom.

        First that of groups, then those of each candidate's seeds. Empty for a single group, since
        seeds alone would understate the variance by an unknown amount.
        """
        influence = self._influence[candidate]
        concerned = [candidate]
        if other is not None:
            influence = influence - self._influence[other]
            concerned.append(other)
        if self.num_groups == 1:
            return []
        free = self.num_groups - 1
        parts = [(float((influence**2).sum() * self.num_groups / free), free)]
        if self.num_seeds > 1:
            parts += [self._of_seeds[at] for at in concerned]
        return parts

    def interval(self, resampled: Floats, candidate: int, confidence: float) -> Interval:
        """Confidence interval of a candidate's mean.

        Args:
            resampled: its column (B,) of `resampled_means`.
            candidate: its index.
            confidence: such as 0.95.
        """
        parts = self.variances(candidate)
        return _interval(resampled, self.means[candidate], parts, confidence)

    def differences(
        self, resampled: Floats, confidence: float, seed: int
    ) -> dict[tuple[int, int], Difference]:
        """Differences of all pairs (i, j), i < j.

        The p of a pair is the larger of two: of a permutation test that swaps the candidates within
        whole groups, valid for these particular networks, and of a t test with the variance of
        groups and seeds (Satterthwaite), valid for newly trained networks. Then Holm's correction
        is applied.

        Args:
            resampled: (B, C), see `resampled_means`.
            confidence: of the intervals.
            seed: of the permutations.
        """
        pairs = list(combinations(range(len(self.means)), 2))
        if not pairs:
            return {}
        effects = np.stack([self._parts[i] - self._parts[j] for i, j in pairs])
        swapped = sign_flip_p(effects, len(resampled), seed)
        found, raw = [], []
        for at, (i, j) in enumerate(pairs):
            parts = self.variances(i, j)
            error, free = _error(parts)
            gap = float(self.means[i] - self.means[j])
            of_t = 2 * stats.t.sf(abs(gap) / error, free) if error > 0 else float(gap == 0)
            raw.append(max(float(swapped[at]), of_t) if parts else np.nan)
            both = resampled[:, i] - resampled[:, j]
            reach = stats.t.ppf((1 + confidence) / 2, free) + stats.t.ppf(POWER, free)
            detectable = float(reach * error) if parts else np.nan
            found.append((_interval(both, gap, parts, confidence), detectable))
        corrected = _holm(np.array(raw))
        return {
            pair: Difference(*pair, interval, float(p), min_detectable_difference)
            for pair, (interval, min_detectable_difference), p in zip(
                pairs, found, corrected, strict=True
            )
        }


POWER = 0.8


def best_probabilities(resampled: Floats) -> Floats:
    """Probability (C,) that each candidate is the best, from resampled means (B, C)."""
    first = np.nan_to_num(resampled, nan=-np.inf).argmax(axis=1)
    return np.bincount(first, minlength=resampled.shape[1]) / len(resampled)


def winners_curse(means: Floats, resampled: Floats) -> float:
    """Optimistic bias of the best of several means, caused by selecting it.

    On average, how much better the winner of a resample scores there than in the data.

    Args:
        means: (C,) of the data.
        resampled: (B, C).
    """
    winners = np.nan_to_num(resampled, nan=-np.inf).argmax(axis=1)
    return float(np.nanmean(resampled[np.arange(len(winners)), winners] - means[winners]))


def sign_flip_p(effects: Floats, num_resamples: int, seed: int) -> Floats:
    """Paired permutation tests: is the sum of a pair's effects zero?

    Uses all 2^G ways to swap the two candidates if there are at most `num_resamples`, else that
    many random ones. All pairs share the same swaps, which makes this a matrix product;
    scipy.stats.permutation_test agrees, but draws them anew for each pair.

    Args:
        effects: (P, G), contribution of each group to the difference of a pair.
        num_resamples: maximum number of permutations.
        seed: of random permutations.

    Returns:
        (P,) two-sided p, never 0.
    """
    number = effects.shape[1]
    exact = number <= 62 and 2**number <= num_resamples
    rng = np.random.default_rng([seed, 2])
    observed = np.abs(effects.sum(axis=1)) * (1 - 1e-12)  # tolerance for rounding
    total = 2**number if exact else num_resamples
    as_extreme = np.zeros(len(effects))
    for start in range(0, total, BATCH):
        size = min(BATCH, total - start)
        if exact:
            flips = (np.arange(start, start + size)[:, None] >> np.arange(number)) & 1
        else:
            flips = rng.integers(0, 2, (size, number), dtype=np.int8)
        sums = (1.0 - 2.0 * flips) @ effects.T
        as_extreme += (np.abs(sums) >= observed).sum(axis=0)
    # The observed labelling counts as one of the random ones (Phipson and Smyth 2010).
    return as_extreme / total if exact else (as_extreme + 1) / (total + 1)


def shared_ranks(
    num: int, differences: dict[tuple[int, int], Difference], alpha: float
) -> list[int]:
    """Rank of each candidate: 1 plus the number of significantly better ones, so candidates that
    cannot be told apart from the best share its rank.

    Args:
        num: number of candidates.
        differences: by pair (i, j), i < j.
        alpha: significance level.
    """
    ranks = [1] * num
    for (i, j), found in differences.items():
        if found.p < alpha:
            ranks[j if found.interval.mean > 0 else i] += 1
    return ranks


@dataclass(frozen=True)
class Stability:
    """How far the ranking agrees between seeds.

    Attributes:
        firsts: (C,) share of seeds in which each candidate is first.
        agreement: mean of Kendall's tau over pairs of seeds; NaN for one seed or candidate.
    """

    firsts: list[float]
    agreement: float


def stability(seed_means: Floats) -> Stability:
    """Of means (C, S)."""
    first = np.bincount(
        np.nan_to_num(seed_means, nan=-np.inf).argmax(axis=0), minlength=len(seed_means)
    )
    taus = [
        stats.kendalltau(seed_means[:, a], seed_means[:, b]).statistic
        for a, b in combinations(range(seed_means.shape[1]), 2)
        if len(seed_means) > 1
    ]
    agreement = float(np.mean(taus)) if taus else np.nan
    return Stability((first / seed_means.shape[1]).tolist(), agreement)


@dataclass(frozen=True)
class VarianceSplit:
    """Standard deviations of a score: between images, between seeds, and residual (images that are
    harder for one seed than for another)."""

    images: float
    seeds: float
    rest: float


def variance_split(scores: Floats) -> VarianceSplit:
    """Spread of one candidate's scores (S, N), by two-way analysis of variance over the images that
    all seeds score; NaN for fewer than two seeds or images."""
    whole = scores[:, ~np.isnan(scores).any(axis=0)]
    seeds, images = whole.shape
    if min(seeds, images) < 2:
        spread = float(whole.std(ddof=1)) if seeds == 1 and images > 1 else np.nan
        return VarianceSplit(spread, np.nan, np.nan)
    of_image, of_seed = whole.mean(axis=0), whole.mean(axis=1)
    rest = whole - of_image - of_seed[:, None] + whole.mean()
    left = (rest**2).sum() / ((seeds - 1) * (images - 1))
    between_images = max(0.0, of_image.var(ddof=1) - left / seeds)
    between_seeds = max(0.0, of_seed.var(ddof=1) - left / images)
    return VarianceSplit(*(float(np.sqrt(part)) for part in (between_images, between_seeds, left)))


def _seed_variances(seed_means: Floats) -> list[tuple[float, int]]:
    """Variance of each candidate's mean due to seeds, with degrees of freedom, from means (C, S).

    The larger of its own and the pooled one: otherwise two or three seeds that happen to agree
    would make a candidate's lead look certain.
    """
    candidates, seeds = seed_means.shape
    if seeds == 1:
        return []
    own = seed_means.var(axis=1, ddof=1) / seeds
    free = seeds - 1
    return [
        (float(part), free) if part > own.mean() else (float(own.mean()), free * candidates)
        for part in own
    ]


def _draw(rng: np.random.Generator, number: int, size: tuple[int, ...]) -> NDArray[np.int64]:
    """How often each of `number` units is drawn: (*size, number)."""
    drawn = max(1, number - 1)
    return rng.multinomial(drawn, np.full(number, 1 / number), size)


def _error(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Standard error and degrees of freedom from variance components (Satterthwaite)."""
    total = sum(part for part, _ in parts)
    if total <= 0:
        return 0.0, float(min((free for _, free in parts), default=1))
    return float(np.sqrt(total)), total**2 / sum(part**2 / free for part, free in parts)


def _interval(
    resampled: Floats, mean: float, parts: Sequence[tuple[float, int]], confidence: float
) -> Interval:
    """Percentiles of resampled means, stretched about the mean by the ratio of t to normal.

    Plain percentiles are too narrow for few groups or seeds (Hesterberg 2015).
    """
    if not parts:
        return Interval(float(mean), np.nan, np.nan)
    error, free = _error(parts)
    tail = (1 - confidence) / 2
    stretch = stats.t.ppf(1 - tail, free) / stats.norm.ppf(1 - tail)
    if (spread := float(np.nanstd(resampled))) > 0:
        stretch *= max(1.0, error / spread)
    low, high = mean + stretch * (np.nanquantile(resampled, [tail, 1 - tail]) - mean)
    return Interval(float(mean), float(low), float(high))


def _holm(raw: Floats) -> Floats:
    there = ~np.isnan(raw)
    corrected = np.full(len(raw), np.nan)
    if there.any():
        corrected[there] = multipletests(raw[there], method="holm")[1]
    return corrected
