"""What a difference means is read from its interval, its p and what matters."""

import numpy as np
import pytest

from segbench.comparison.statistics.decisions import (
    not_worse,
    probability_not_worse,
    relation_of,
)
from segbench.comparison.statistics.differences import Difference, Interval


def difference(low: float, high: float, p: float) -> Difference:
    interval = Interval((low + high) / 2, low, high)
    return Difference(1, 0, interval, p, interval, p, (high - low) / 2, {}, 9)


@pytest.mark.parametrize(
    ("low", "high", "p", "relation", "is_not_worse"),
    [
        (-0.08, -0.03, 0.001, "worse", False),
        (-0.03, -0.005, 0.001, "worse", False),
        (-0.008, -0.002, 0.001, "equivalent", True),  # surely worse, but not by what matters
        (-0.008, 0.008, 0.9, "equivalent", True),
        (-0.008, 0.03, 0.4, "undecided", True),
        (-0.03, 0.02, 0.6, "undecided", False),
        (0.0, 0.04, 0.03, "better", True),  # the step-down test shows no more than its sign
        (0.0, 0.04, 0.06, "undecided", True),
        (np.nan, np.nan, np.nan, "undecided", False),
        (-np.inf, np.inf, 0.5, "undecided", False),
    ],
)
def test_relations(low: float, high: float, p: float, relation: str, is_not_worse: bool) -> None:
    found = difference(low, high, p)
    assert relation_of(found, 0.95, 0.01) == relation
    assert not_worse(found, 0.01) is is_not_worse


def test_how_probable_it_is_to_be_as_good() -> None:
    drawn = np.array([[0.8, 0.8], [0.8, 0.795], [0.8, 0.78], [0.7, 0.71]])
    assert probability_not_worse(drawn, 1, 0, 0.01) == 0.75
