"""Several data sets: what holds on these, and what on data sets like these."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from segbench.comparison.statistics.across import FEWEST_DATASETS, compare_across, spread_between

DRAWS = 4000


def made(number: int, rivals: int, seed: int, spread: float = 0.03) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.005, 0.03, (number, rivals))
    gaps = -0.04 + rng.normal(0, spread, (number, rivals)) + rng.normal(size=errors.shape) * errors
    return gaps, errors, np.full(errors.shape, 1e6)


@pytest.mark.parametrize("number", [3, 5, 10])
def test_one_difference_is_that_of_scipy_and_its_spread_that_of_statsmodels(number: int) -> None:
    gaps, errors, degrees = made(number, 1, number)
    (found,) = compare_across(gaps, errors, degrees, 0.95, 100_000, 0)
    expected = combine_effects(gaps[:, 0], errors[:, 0] ** 2, method_re="iterated")
    assert found.spread**2 == pytest.approx(expected.tau2, abs=1e-6)
    assert found.spread == spread_between(gaps[:, 0], errors[:, 0])
    t = stats.ttest_1samp(gaps[:, 0], 0)
    alone = 2 * stats.norm.sf(abs(gaps.mean()) / (np.sqrt((errors**2).sum()) / number))
    assert found.like_these is not None
    assert found.like_these.p == pytest.approx(max(t.pvalue, alone), abs=0.01)
    # A significant p cuts an interval at 0, so its width is that of differences around 0.
    (none,) = compare_across(gaps - gaps.mean(), errors, degrees, 0.95, 100_000, 0)
    assert none.like_these is not None
    low, high = t.confidence_interval(0.95)
    wide = max((high - low) / 2, 1.96 * np.sqrt((errors**2).sum()) / number)
    assert none.like_these.interval.high == pytest.approx(wide, rel=0.03)


def test_the_mean_over_these_is_that_of_a_t_test() -> None:
    gaps, errors, _ = made(4, 1, 0)
    (found,) = compare_across(gaps, errors, np.full(gaps.shape, 1e6), 0.95, 100_000, 0)
    error = np.sqrt((errors**2).sum()) / 4
    assert found.these.interval.mean == pytest.approx(gaps.mean())
    assert found.these.interval.high == pytest.approx(gaps.mean() + 1.96 * error, rel=0.02)
    few = compare_across(gaps, errors, np.full(gaps.shape, 2.0), 0.95, 100_000, 0)[0]
    # Satterthwaite's degrees of four errors with 2 each: no more than 8.
    assert few.these.interval.low < found.these.interval.low


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 5]), st.sampled_from([1, 3, 11]))
def test_p_and_intervals_never_contradict_each_other(seed: int, number: int, rivals: int) -> None:
    for one in compare_across(*made(number, rivals, seed), 0.95, 300, 0):
        assert (one.like_these is None) == (number < FEWEST_DATASETS)
        for claim in filter(None, (one.these, one.like_these)):
            inside = claim.interval.low < 0 < claim.interval.high
            assert inside == (not claim.p < 0.05) or 0 in (claim.interval.low, claim.interval.high)
            assert claim.interval.low <= claim.interval.mean <= claim.interval.high


def test_a_spread_between_data_sets_widens_one_claim_only() -> None:
    """The same means and errors: -0.06 on each, or 0 to -0.12."""
    errors, degrees = np.full((5, 1), 0.01), np.full((5, 1), 50.0)
    agree = np.full((5, 1), -0.06) + np.array([[-0.001], [0], [0], [0], [0.001]])
    differ = np.linspace(0, -0.12, 5)[:, None]
    (same,), (apart,) = (
        compare_across(gaps, errors, degrees, 0.95, DRAWS, 0) for gaps in (agree, differ)
    )
    assert same.these.interval.high == pytest.approx(apart.these.interval.high)
    assert same.spread == 0
    assert apart.spread == pytest.approx(np.sqrt(differ.var(ddof=1) - 0.01**2))
    assert same.like_these is not None
    assert apart.like_these is not None
    assert same.like_these.p < 0.01
    # Data sets that agree better than chance lets them bound no tighter than their errors do.
    width = same.like_these.interval.high - same.like_these.interval.low
    assert width == pytest.approx(same.these.interval.high - same.these.interval.low, rel=0.1)
    assert same.like_these.interval.mean == same.these.interval.mean
    assert apart.like_these.interval.low < same.like_these.interval.low - 0.02


def test_candidates_that_never_differ() -> None:
    """The same network under two names: no division by its error of 0."""
    gaps, errors, degrees = made(3, 2, 0)
    gaps[:, 0], errors[:, 0] = 0, 0
    first, second = compare_across(gaps, errors, degrees, 0.95, DRAWS, 0)
    for claim in (first.these, first.like_these):
        assert claim is not None
        assert (claim.interval.low, claim.interval.mean, claim.interval.high) == (0, 0, 0)
        assert claim.p == 1
    assert first.spread == 0
    assert np.isfinite(second.these.p)
