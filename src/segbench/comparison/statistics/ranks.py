"""Ranks by data set: do candidates differ at all, and does the champion lead (Demsar 2006).

Data sets are the units, so a handful of them cannot show much, and `smallest_p` says so beforehand.
p are of permutations, exact where data sets are few: the usual distributions need many.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np
from scipy.stats import rankdata

from segbench.comparison.statistics.family import BATCH, EXACT, Family, sign_flips
from segbench.comparison.statistics.panel import Floats

MOST_ORDERS = 10_000
"""Ways to order candidates on all data sets, up to which all are gone through."""


@dataclass(frozen=True)
class RankTest:
    """Tests of mean ranks.

    Attributes:
        f: Friedman's statistic as F after Iman and Davenport (1980); infinite where all data sets
            order the candidates alike, NaN where all candidates tie on each.
        p: whether candidates differ at all.
        smallest_p: the least that p could be, if all data sets agreed.
        to_champion: (P,) whether the others differ from the first candidate; step-down.
        smallest_to_champion: the least that these could be.
    """

    f: float
    p: float
    smallest_p: float
    to_champion: Floats
    smallest_to_champion: float


def ranks_of(means: Floats) -> Floats:
    """(K, C): of each data set, 1 for the best; candidates that tie share the mean of theirs."""
    found: Floats = rankdata(-means, axis=1)
    return found


def rank_test(means: Floats, num_resamples: int, seed: int) -> RankTest:
    """Test mean ranks over data sets; the first candidate is the champion.

    Friedman's test permutes candidates within each data set. Against the champion, which was chosen
    by other images, whole data sets swap signs of rank differences, so that how the others compare
    with each other plays no part.

    Args:
        means: (K, C) scores, of at least two data sets and two candidates.
        num_resamples: random permutations, where there are too many for all.
        seed: of these.
    """
    ranks = ranks_of(means)
    number, candidates = ranks.shape
    agreement = (ranks.sum(axis=0) ** 2).sum()
    as_extreme = total = 0
    for drawn in _orders(ranks, num_resamples, seed):
        as_extreme += int(((drawn**2).sum(axis=1) >= agreement * (1 - 1e-12)).sum())
        total += len(drawn)
    orders = factorial(candidates) ** (number - 1)
    exact = orders <= MOST_ORDERS
    return RankTest(
        _iman_davenport(ranks),
        as_extreme / total if exact else (as_extreme + 1) / (total + 1),
        1 / orders if exact else 1 / (num_resamples + 1),
        _to_champion(ranks, num_resamples, seed),
        2 / 2**number if number <= EXACT else 1 / (num_resamples + 1),
    )


def _iman_davenport(ranks: Floats) -> float:
    number, candidates = ranks.shape
    if (ranks == ranks[:, :1]).all():
        return np.nan
    # Friedman's statistic, also with ties.
    centred = ranks - (candidates + 1) / 2
    chi = (candidates - 1) * (centred.sum(axis=0) ** 2).sum() / (centred**2).sum()
    rest = number * (candidates - 1) - chi
    return float((number - 1) * chi / rest) if rest > 1e-9 else np.inf


def _to_champion(ranks: Floats, num_resamples: int, seed: int) -> Floats:
    apart = (ranks[:, 1:] - ranks[:, :1]).T
    norm = np.sqrt((apart**2).sum(axis=1))
    norm = np.where(norm > 0, norm, np.inf)
    family = Family(np.abs(apart.sum(axis=1)) / norm, exact=len(ranks) <= EXACT)
    for flips in sign_flips(len(ranks), num_resamples, seed):
        family.add(np.abs(flips @ apart.T) / norm)
    return family.p()


def _orders(ranks: Floats, num_resamples: int, seed: int) -> Iterator[Floats]:
    """Sums of ranks (b, C) if candidates were permuted within each data set but the first, which
    takes nothing from a statistic that treats all alike."""
    number, candidates = ranks.shape
    ways = factorial(candidates)
    if ways ** (number - 1) > MOST_ORDERS:
        rng = np.random.default_rng([seed, 6])
        for start in range(0, num_resamples, BATCH):
            size = min(BATCH, num_resamples - start)
            yield rng.permuted(np.broadcast_to(ranks, (size, *ranks.shape)), axis=2).sum(axis=1)
        return
    places = np.array(list(permutations(range(candidates))))
    each = np.arange(ways ** (number - 1))
    sums = np.broadcast_to(ranks[0], (len(each), candidates)).copy()
    for at, row in enumerate(ranks[1:]):
        sums += row[places[each // ways**at % ways]]
    yield sums
