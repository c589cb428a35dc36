"""Several comparisons at once: step-down p, and the critical value that goes with them.

The largest statistic of all is compared with the largest that chance makes (max-T, Westfall and
Young 1993), stepwise. What chance makes is drawn for all together, so that what they have in common
counts, as the champion in each of its comparisons.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BATCH = 500
"""Draws computed at a time, to bound memory."""
EXACT = 13
"""Groups up to which all 2^G ways to swap two candidates are gone through."""


@dataclass(frozen=True)
class Tested:
    """p and bounds (P,) of a family."""

    p: Floats
    low: Floats
    high: Floats


def sign_flips(groups: int, number: int, seed: int) -> Iterator[Floats]:
    """All 2^G ways to flip G signs if they are few, else random ones: (b, G) of 1 and -1 each.

    Args:
        groups: G.
        number: of random ones.
        seed: of the random ones.
    """
    if groups > EXACT:
        yield from random_flips(groups, number, seed)
        return
    for start in range(0, 2**groups, BATCH):
        ways = np.arange(start, min(start + BATCH, 2**groups))
        yield 1.0 - 2.0 * ((ways[:, None] >> np.arange(groups)) & 1).astype(np.float64)


def random_flips(groups: int, number: int, seed: int) -> Iterator[Floats]:
    """Random signs: (b, groups) of 1 and -1 each, `number` rows in all."""
    rng = np.random.default_rng([seed, 2])
    for start in range(0, number, BATCH):
        bits = rng.integers(0, 2, (min(BATCH, number - start), groups))
        yield 1.0 - 2.0 * bits.astype(np.float64)


def normal_draws(units: int, number: int, seed: int) -> Iterator[Floats]:
    """Normal numbers: (b, units) each, `number` rows in all."""
    rng = np.random.default_rng([seed, 3])
    for start in range(0, number, BATCH):
        yield rng.standard_normal((min(BATCH, number - start), units))


class Family:
    """What chance makes of several statistics, draw by draw.

    Args:
        observed: (P,) statistics of which larger ones speak against chance.
        exact: the draws will be all there are; else the observation counts as one of them (Phipson
            and Smyth 2010).
    """

    def __init__(self, observed: Floats, exact: bool) -> None:
        self._exact = exact
        self.observed = np.nan_to_num(observed, nan=0.0)
        self._order = np.argsort(-self.observed, kind="stable")
        self._as_extreme = np.zeros(len(observed))
        self._largest: list[Floats] = []

    def add(self, drawn: Floats) -> None:
        """Take in draws (b, P) of all statistics under chance alone."""
        ordered = np.nan_to_num(drawn[:, self._order], nan=0.0)
        # Of each, and of all that are observed to be smaller.
        largest = np.maximum.accumulate(ordered[:, ::-1], axis=1)[:, ::-1]
        at_least = self.observed[self._order] * (1 - 1e-12)  # tolerance for rounding
        self._as_extreme += (largest >= at_least).sum(axis=0)
        self._largest.append(largest[:, 0])

    def p(self) -> Floats:
        """(P,) step-down p; never 0."""
        number = self._number
        raw = self._as_extreme / number if self._exact else (self._as_extreme + 1) / (number + 1)
        found = np.empty(len(raw))
        found[self._order] = np.maximum.accumulate(raw)
        return found

    def critical(self, confidence: float) -> float:
        """The largest value that, observed, would not make p less than 1 - confidence.

        Infinite if no value would: of all ways to swap, one and its mirror image are as extreme as
        can be.
        """
        number, alpha = self._number, 1 - confidence
        if (2 / number if self._exact else 1 / (number + 1)) >= alpha:
            return np.inf
        rank = alpha * number if self._exact else alpha * (number + 1) - 1
        largest = np.sort(np.concatenate(self._largest))[::-1]
        return float(largest[max(int(np.ceil(rank - 1e-9)), 1) - 1])

    @property
    def _number(self) -> int:
        return sum(map(len, self._largest))
