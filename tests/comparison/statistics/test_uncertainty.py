"""Means have intervals that cover them, and the best is as probable and as optimistic as said."""

import numpy as np
import pytest
from scipy import stats

from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.spread import spread_of
from segbench.comparison.statistics.uncertainty import (
    best_probabilities,
    choice_of_epoch,
    drawn_means,
    intervals,
    selection_optimism,
)
from support.simulation import Case, simulated


def panel(scores: np.ndarray) -> Panel:
    """A group for each image of (C, S, N)."""
    number = scores.shape[2]
    return Panel(scores, np.arange(number).astype(str), np.zeros(number, int))


def test_few_groups_widen_intervals_as_t_does() -> None:
    scores = np.random.default_rng(3).normal(0.5, 0.05, (1, 1, 6))
    (found,) = intervals(panel(scores), 0.95)
    half = stats.t.ppf(0.975, 5) * scores.std(ddof=1) / np.sqrt(6)
    assert (found.high - found.low) / 2 == pytest.approx(half)


def test_bounds_are_scores() -> None:
    (found,) = intervals(panel(np.array([[[0.99, 0.98, 1.0, 0.4]]])), 0.95)
    assert 0 <= found.low < found.mean < found.high == 1


def test_one_group_has_no_interval() -> None:
    scores = np.array([[[0.5, 0.6]]])
    (found,) = intervals(Panel(scores, np.array(["a", "a"]), np.zeros(2, int)), 0.95)
    assert found.mean == pytest.approx(0.55)
    assert np.isnan([found.low, found.high]).all()


def test_folds_that_agree_do_not_make_images_certain() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0.6, 0.1, 12)
    scores = np.concatenate([base] * 4)[None, None]  # each fold has the same mean
    found = Panel(scores, np.arange(48).astype(str), np.repeat(np.arange(4), 12))
    (interval,) = intervals(found, 0.95)
    assert interval.high - interval.low > 0.03


def test_drawn_means_vary_as_groups_and_seeds_do() -> None:
    case = Case(candidates=3, seeds=5, groups=60, of_seeds=0.01)
    found = simulated(case, np.random.default_rng(0))
    drawn = drawn_means(found, 4000, 0)
    assert drawn.mean(axis=0) == pytest.approx(found.means, abs=0.002)
    first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
    reach = spread_of(found, first, second).reach(0.025)
    low, high = np.quantile(drawn[:, first] - drawn[:, second], [0.025, 0.975], axis=0)
    assert (high - low) / 2 == pytest.approx(reach, rel=0.25)
    # Groups are hard for all alike, so that means move together.
    assert np.corrcoef(drawn.T)[0, 1] > 0.3


def test_ties_are_split() -> None:
    scores = np.random.default_rng(0).random((1, 2, 9))
    found = best_probabilities(drawn_means(panel(np.concatenate([scores] * 4)), 500, 0)[:, :1])
    assert found.tolist() == [1]
    same = np.ones((10, 4)) * 0.5
    assert best_probabilities(same).tolist() == [0.25] * 4
    with_nan = np.array([[0.1, np.nan], [0.2, np.nan]])
    assert best_probabilities(with_nan).tolist() == [1, 0]


def test_few_groups_make_nobody_surely_the_best() -> None:
    """Four groups and two seeds: the tails of t are long."""
    rng = np.random.default_rng(0)
    most = [
        best_probabilities(
            drawn_means(simulated(Case(seeds=2, groups=4, sizes="equal"), rng), 2000, trial)
        ).max()
        for trial in range(40)
    ]
    assert np.mean(np.array(most) > 0.99) < 0.05


def test_the_best_of_equals_is_as_optimistic_as_chance_makes_it() -> None:
    """On average over experiments; all true means are equal but for the seeds."""
    rng = np.random.default_rng(0)
    case = Case(candidates=8, seeds=3, groups=40)
    said, true = [], []
    for trial in range(60):
        found = simulated(case, rng)
        said.append(selection_optimism(found.means, drawn_means(found, 1000, trial, tails=False)))
        true.append(found.means.max() - found.means.mean())
    assert np.mean(said) == pytest.approx(np.mean(true), rel=0.3)


def test_a_clear_winner_was_not_lucky() -> None:
    rng = np.random.default_rng(0)
    found = simulated(Case(candidates=4, groups=40, lead=0.3), rng)
    assert abs(selection_optimism(found.means, drawn_means(found, 1000, 0, tails=False))) < 0.003


@pytest.mark.parametrize("rises", [0.0, 0.3])
def test_the_best_of_many_epochs_is_as_optimistic_as_chance_makes_it(rises: float) -> None:
    rng = np.random.default_rng(0)
    said, true = [], []
    for trial in range(200):
        noise = rng.normal(0, 0.024, 16)
        scores = rises * np.linspace(0, 1, 16) + noise
        said.append(choice_of_epoch(scores, 300, trial))
        true.append(noise[scores.argmax()])
    assert np.mean(said) == pytest.approx(np.mean(true), rel=0.2)


def test_few_epochs_do_not_show_their_noise() -> None:
    assert np.isnan(choice_of_epoch(np.array([0.1, 0.5, 0.6, 0.6, np.nan, np.nan, 0.7, 0.7]), 9, 0))
