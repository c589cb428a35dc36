"""Ranks over data sets, and what a handful of them can show at most."""

from math import factorial

import numpy as np
import pytest
from scipy import stats

from segbench.comparison.statistics import ranks
from segbench.comparison.statistics.ranks import rank_test, ranks_of

DRAWS = 5000


def test_ties_share_their_ranks() -> None:
    found = ranks_of(np.array([[0.9, 0.8, 0.8], [0.1, 0.1, 0.1]]))
    assert found.tolist() == [[1, 2.5, 2.5], [2, 2, 2]]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (12, 5), (30, 4)])
def test_friedman_is_that_of_scipy(shape: tuple[int, int], ties: bool) -> None:
    means = np.random.default_rng(shape[0]).normal(0.7, 0.1, shape) + np.arange(shape[1]) * 0.02
    means = means.round(1) if ties else means
    found = rank_test(means, DRAWS, 0)
    number, candidates = shape
    chi = stats.friedmanchisquare(*means.T).statistic
    f = (number - 1) * chi / (number * (candidates - 1) - chi)
    assert found.f == pytest.approx(f)
    if number > 10:  # else F only comes near
        p = stats.f.sf(f, candidates - 1, (candidates - 1) * (number - 1))
        assert found.p == pytest.approx(p, abs=0.03)


def test_of_two_candidates_it_is_the_sign_test() -> None:
    means = np.array([[0.8, 0.7]] * 7 + [[0.6, 0.7]] * 2)
    found = rank_test(means, DRAWS, 0)
    expected = stats.binomtest(7, 9).pvalue
    assert found.p == pytest.approx(expected)
    assert found.to_champion == pytest.approx([expected])


@pytest.mark.parametrize(("number", "candidates"), [(2, 2), (3, 3), (5, 2), (6, 4), (4, 12)])
def test_no_p_is_smaller_than_the_least_that_could_be(number: int, candidates: int) -> None:
    """All data sets agree: p is exactly the least, unless it is drawn."""
    means = np.tile(np.linspace(0.9, 0.1, candidates), (number, 1))
    found = rank_test(means, DRAWS, 0)
    assert found.f == np.inf
    assert found.p == found.smallest_p
    assert found.to_champion.min() == found.smallest_to_champion == 2 / 2**number
    if factorial(candidates) ** (number - 1) <= 10_000:
        assert found.p == pytest.approx(factorial(candidates) ** (1 - number))


def test_exact_and_drawn_permutations_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    means = np.random.default_rng(3).normal([0.8, 0.7, 0.7], 0.1, (4, 3))
    exact = rank_test(means, DRAWS, 0)
    assert exact.smallest_p == 1 / 216
    monkeypatch.setattr(ranks, "MOST_ORDERS", 1)
    drawn = rank_test(means, 20_000, 0)
    assert drawn.smallest_p == 1 / 20_001
    assert drawn.p == pytest.approx(exact.p, abs=0.01)


def test_all_that_tie_on_each() -> None:
    found = rank_test(np.full((6, 3), 0.5), DRAWS, 0)
    assert np.isnan(found.f)
    assert found.p == 1
    assert found.to_champion.tolist() == [1, 1]
