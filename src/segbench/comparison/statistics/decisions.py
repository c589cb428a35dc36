"""Decisions: what a difference means, given how large one must be to matter."""

from typing import Literal, Protocol

from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Floats

Relation = Literal["better", "equivalent", "worse", "undecided"]


class Tested(Protocol):
    """A difference with an interval and a p that agree."""

    @property
    def interval(self) -> Interval:
        """Simultaneous with those of its family."""

    @property
    def p(self) -> float:
        """Of its family."""


def relation_of(difference: Tested, confidence: float, matters: float) -> Relation:
    """What the difference of a candidate to another says of the candidate.

    Equivalent is what cannot differ by as much as matters, either way, even if it differs.

    Args:
        difference: candidate minus the other.
        confidence: of its interval.
        matters: the smallest difference that matters, above 0.
    """
    interval = difference.interval
    if -matters < interval.low and interval.high < matters:
        return "equivalent"
    if not difference.p < 1 - confidence:
        return "undecided"
    return "better" if interval.mean > 0 else "worse"


def not_worse(difference: Tested, matters: float) -> bool:
    """Whether the first is shown to be worse by less than matters, if at all."""
    return bool(difference.interval.low > -matters)


def probability_not_worse(drawn: Floats, candidate: int, other: int, matters: float) -> float:
    """How probable it is that a candidate is not worse than another by as much as matters.

    Args:
        drawn: (B, C), see `uncertainty.drawn_means`.
        candidate, other: columns.
        matters: the smallest difference that matters.
    """
    return float((drawn[:, candidate] - drawn[:, other] > -matters).mean())
