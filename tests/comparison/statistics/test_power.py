"""The smallest difference that is found in 80 of 100 experiments is found in 80 of 100."""

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from segbench.comparison.statistics.differences import compare
from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.power import found_mostly, resolvable
from support.simulation import Case, simulated


@pytest.mark.parametrize(
    "case",
    [
        Case(4),
        *(
            pytest.param(case, marks=pytest.mark.slow)
            for case in (Case(2), Case(12), Case(4, seeds=1, folds=5), Case(seeds=1, of_seeds=0))
        ),
    ],
    ids=["4 candidates", "2", "12", "folds", "one training"],
)
def test_power_of_the_decision_that_is_taken(case: Case) -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([(at, 0) for at in range(1, case.candidates)])
    said = [
        np.median([resolvable(one) for one in compare(simulated(case, rng), pairs, 0.95, 400, 0)])
        for _ in range(40)
    ]
    leading = replace(case, lead=float(np.median(said)))
    found = [
        np.mean([one.p < 0.05 for one in compare(simulated(leading, rng), pairs, 0.95, 400, trial)])
        for trial in range(300)
    ]
    assert 0.65 < np.mean(found) < 0.9


@pytest.mark.parametrize("groups", [2, 4, 5])
def test_what_cannot_be_found_is_infinite(groups: int) -> None:
    """Of 32 ways to swap five groups two are as extreme: p is 0.0625 at best."""
    found = simulated(Case(2, groups=groups), np.random.default_rng(0))
    (one,) = compare(found, np.array([(1, 0)]), 0.95, 400, 0)
    assert np.isinf(resolvable(one))


def test_what_does_not_vary_is_resolved() -> None:
    scores = np.full((2, 1, 9), 0.5)
    scores[1] += 0.1
    panel = Panel(scores, np.arange(9).astype(str), np.zeros(9, int))
    (one,) = compare(panel, np.array([(1, 0)]), 0.95, 400, 0)
    assert one.p < 0.05
    assert resolvable(one) == 0


def test_one_pair_of_networks_is_resolved_as_students_t_resolves_it() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(0, 0.05, 40)
    scores = np.stack([np.full(40, 0.5), 0.5 + effects])[:, None]
    panel = Panel(scores, np.arange(40).astype(str), np.zeros(40, int))
    (one,) = compare(panel, np.array([(1, 0)]), 0.95, 20_000, 0)
    expected = TTestPower().solve_power(nobs=40, alpha=0.05, power=0.8) * effects.std(ddof=1)
    assert resolvable(one) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("error", [1e-6, 1e-9, 1e-17])
def test_where_the_error_vanishes_what_chance_reaches_decides(error: float) -> None:
    assert found_mostly(error, 3.2, 0.04) == pytest.approx(0.04, rel=0.01)
