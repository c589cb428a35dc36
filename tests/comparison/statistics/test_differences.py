"""Differences: p and interval agree, and a claim is made only where the design can show it."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from segbench.comparison.statistics.differences import Difference, compare
from segbench.comparison.statistics.panel import GroupLimit, Panel, design_of, group_limit
from support.simulation import Case, simulated

DRAWS = 2000


def panel(scores: np.ndarray, folds: int = 1) -> Panel:
    """A group for each image of (C, S, N)."""
    number = scores.shape[2]
    return Panel(scores, np.arange(number).astype(str), np.arange(number) % folds)


def to_first(found: Panel, draws: int = DRAWS) -> list[Difference]:
    rest = range(1, len(found.means))
    return compare(found, np.array([(at, 0) for at in rest]), 0.95, draws, 0)


def agrees(difference: Difference) -> bool:
    """p says what the interval does; 0 as a bound may be either."""
    for interval, p in (
        (difference.interval, difference.p),
        (difference.of_networks, difference.p_of_networks),
    ):
        outside = interval.low > 0 or interval.high < 0
        if outside and not p < 0.05:
            return False
        if p < 0.05 and interval.low < 0 < interval.high:
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 4, 9]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([2, 6, 14, 25]),
    st.floats(0, 0.2),
)
@example(seed=1573858, candidates=4, seeds=1, folds=1, groups=6, lead=0.125)
def test_p_and_interval_never_contradict_each_other(
    seed: int, candidates: int, seeds: int, folds: int, groups: int, lead: float
) -> None:
    case = Case(candidates, seeds, min(folds, groups), groups, lead=lead)
    for found in to_first(simulated(case, np.random.default_rng(seed)), 300):
        assert agrees(found)
        assert found.interval.low <= found.interval.mean <= found.interval.high
        assert found.p >= found.p_of_networks
        assert found.interval.low <= found.of_networks.low
        assert found.interval.high >= found.of_networks.high


@pytest.mark.parametrize("groups", [5, 12, 40])
def test_swaps_agree_with_scipy(groups: int) -> None:
    """For one pair, which needs no correction."""
    effects = np.random.default_rng(groups).normal(0.02, 0.05, groups)
    (found,) = to_first(panel(np.stack([np.full(groups, 0.5), 0.5 + effects])[:, None]), 20_000)
    expected = stats.permutation_test(
        (effects,), lambda x, axis: x.sum(axis), permutation_type="samples",
        n_resamples=20_000, vectorized=True, rng=0,
    ).pvalue  # fmt: skip
    # Exact up to 13 groups, else random with another generator.
    assert found.p == pytest.approx(expected, abs=1e-9 if groups < 14 else 0.02)


def test_random_swaps_never_give_p_zero() -> None:
    """The observed labelling is one of them, so the smallest p is 1 / (draws + 1)."""
    effects = np.linspace(1, 2, 70) / 10  # no random swap of 70 groups is as extreme
    (found,) = to_first(panel(np.stack([np.zeros(70), effects])[:, None]), 400)
    assert found.p == pytest.approx(1 / 401)


def test_an_interval_of_one_pair_is_near_that_of_students_t() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(0.02, 0.05, 60)
    (found,) = to_first(panel(np.stack([np.full(60, 0.5), 0.5 + effects])[:, None]), 20_000)
    low, high = stats.ttest_1samp(effects, 0).confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=0.001)


def test_of_many_candidates_the_best_is_found() -> None:
    """From 0.10 to 0.86 over 30 groups: no correction may hide it, however many there are."""
    rng = np.random.default_rng(0)
    means = np.linspace(0.86, 0.10, 20)
    found = panel((means[:, None] + rng.normal(0, 0.03, (20, 30)))[:, None])
    every = np.array(list(combinations(range(20), 2)))
    assert all(one.p < 0.05 for one in to_first(found))
    assert sum(one.p < 0.05 for one in compare(found, every, 0.95, DRAWS, 0)) > 180


def test_a_family_finds_no_more_than_its_smallest_part() -> None:
    """Step by step: the second is tested among those that are left."""
    rng = np.random.default_rng(1)
    base = rng.normal(0.6, 0.02, 12)
    rows = [base, base + rng.normal(0.05, 0.01, 12), base + rng.normal(0, 0.01, 12)]
    found = panel(np.array(rows)[:, None])
    large, small = to_first(found)
    assert large.p < 0.05 < small.p
    (alone,) = compare(found, np.array([(2, 0)]), 0.95, DRAWS, 0)
    assert small.p == pytest.approx(max(alone.p, large.p))


@pytest.mark.parametrize(
    ("seeds", "folds", "design"),
    [
        (1, 1, "one training"),
        (2, 1, "one training"),
        (3, 1, "seeds"),
        (1, 2, "one training"),
        (3, 2, "one training"),
        (1, 3, "folds"),
        (3, 5, "folds"),
    ],
)
def test_what_a_design_can_claim(seeds: int, folds: int, design: str) -> None:
    found = simulated(Case(seeds=seeds, folds=folds), np.random.default_rng(0))
    assert design_of(found) == design
    for one in to_first(found):
        assert (one.p == one.p_of_networks) or design != "one training"
        assert ("its seeds" in one.components) is (design == "seeds")
        assert ("folds" in one.components) is (design == "folds")


@pytest.mark.parametrize(
    ("case", "limit"),
    [
        (Case(groups=6, sizes="equal"), None),
        (Case(groups=5, sizes="equal"), GroupLimit(5.0, 6, False)),
        (Case(groups=40, sizes="one", bimodal=True), None),
        (Case(groups=39, sizes="one", bimodal=True), GroupLimit(39.0, 40, True)),
        (Case(seeds=8, groups=5, sizes="equal"), GroupLimit(5.0, 6, False)),
    ],
)
def test_seeds_on_few_groups_do_not_speak_of_trainings(
    case: Case, limit: GroupLimit | None
) -> None:
    found = simulated(case, np.random.default_rng(0))
    assert group_limit(found) == limit
    assert design_of(found) == ("one training" if limit else "seeds")
    assert all((one.p == one.p_of_networks) or not limit for one in to_first(found))
    folds = simulated(replace(case, folds=3), np.random.default_rng(0))
    assert design_of(folds) == "folds"


def test_misses_are_scores_far_below_most() -> None:
    scores = np.full((2, 1, 20), 0.8)
    assert not panel(scores).has_misses
    scores[:, :, :3] = 0.1
    assert panel(scores).has_misses
    assert panel(-scores).has_misses
    scores[:, :, :12] = 0.1  # most are missed
    assert panel(scores).has_misses
    assert panel(-scores).has_misses
    scores[:, :, :12] = np.nan
    assert not panel(scores).has_misses


def test_seeds_that_differ_take_away_what_images_show() -> None:
    """Every image of every run is better, but the runs differ by more than the candidates do."""
    images = np.random.default_rng(0).normal(0, 0.01, (2, 1, 40))
    runs = np.array([[0.70, 0.72, 0.66], [0.74, 0.69, 0.71]])[:, :, None]
    (found,) = to_first(panel(runs + images))
    assert found.p_of_networks < 0.05 < found.p
    assert found.of_networks.low > 0 > found.interval.low


def test_folds_that_differ_take_away_what_images_show() -> None:
    rng = np.random.default_rng(0)
    of_fold = np.tile([0.10, -0.05, 0.02, 0.08, -0.03], 20)
    base = rng.normal(0.6, 0.05, 100)
    found = panel(np.stack([base, base + of_fold])[:, None], folds=5)
    (one,) = to_first(found)
    assert one.p_of_networks < 0.05 < one.p
    by_hand = stats.ttest_1samp([0.10, -0.05, 0.02, 0.08, -0.03], 0)
    assert one.p == pytest.approx(by_hand.pvalue, abs=0.03)
    assert one.error == pytest.approx(
        np.std([0.10, -0.05, 0.02, 0.08, -0.03], ddof=1) / np.sqrt(5), rel=0.01
    )


def test_of_few_folds_each_pair_has_a_variance_of_its_own() -> None:
    """The largest of eleven such t is larger than of eleven that share one variance."""
    rng = np.random.default_rng(0)
    found = panel(rng.normal(0.6, 0.05, (12, 1, 200)), folds=5)
    pairs = to_first(found, 10_000)
    drawn = rng.normal(size=(20_000, 5, 12))
    gaps = drawn[:, :, 1:] - drawn[:, :, :1]
    largest = abs(stats.ttest_1samp(gaps, 0, axis=1).statistic).max(axis=1)
    critical = np.median([one.reach / one.error for one in pairs])
    assert critical == pytest.approx(np.quantile(largest, 0.95), rel=0.08)


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_group_bounds_nothing(seeds: int) -> None:
    """Not even with seeds, which say nothing of other groups."""
    scores = np.array([[[0.5, 0.6]] * seeds, [[0.7, 0.7]] * seeds])
    (found,) = to_first(Panel(scores, np.array(["a", "a"]), np.zeros(2, int)))
    assert found.interval.mean == pytest.approx(0.15)
    assert np.isnan([found.interval.low, found.p, found.p_of_networks]).all()
    assert np.isinf(found.reach)


def test_two_groups_bound_nothing_either() -> None:
    """Of four ways to swap, two are as extreme: p is 0.5 at best."""
    (found,) = to_first(panel(np.array([[[0.5, 0.6]], [[0.9, 0.9]]])))
    assert found.p == 0.5
    assert np.isinf(found.reach)


def test_equal_candidates_differ_by_nothing() -> None:
    scores = np.random.default_rng(0).random((1, 3, 20))
    (found,) = to_first(panel(np.concatenate([scores, scores])))
    assert (found.interval.mean, found.p) == (0, 1)
    assert agrees(found)


def test_a_difference_from_the_other_side() -> None:
    (found,) = to_first(simulated(Case(candidates=2, lead=0.05), np.random.default_rng(0)))
    turned = found.turned
    assert (turned.first, turned.second, turned.p) == (0, 1, found.p)
    assert turned.interval.low == -found.interval.high
    assert turned.turned == found
