"""Interquartile means: of the middle half, each data set of the same weight."""

import numpy as np
import pytest
from scipy import stats

from segbench.comparison.statistics.middle import interquartile_means


def test_of_data_sets_of_one_size_it_is_the_trimmed_mean() -> None:
    parts = [np.random.default_rng(at).beta(4, 1, (3, 20)) for at in range(2)]
    found = interquartile_means(parts, 0.95, 200, 0)
    expected = stats.trim_mean(np.concatenate(parts, axis=1), 0.25, axis=1)
    assert [one.mean for one in found] == pytest.approx(expected)


def test_a_large_data_set_weighs_no_more() -> None:
    """Half of the weight lies at 0.2 and half at 0.8, however many groups say so."""
    (found,) = interquartile_means([np.full((1, 4), 0.2), np.full((1, 400), 0.8)], 0.95, 100, 0)
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    scores = np.random.default_rng(0).beta(4, 1, (1, 60))
    (found,) = interquartile_means([scores], 0.95, 4000, 0)
    expected = stats.bootstrap(
        (scores[0],), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), vectorized=True,
        method="percentile", n_resamples=4000, rng=1,
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_one_hopeless_group_sways_nothing() -> None:
    scores = np.full((1, 8), 0.8)
    scores[0, 0] = 0.0
    (found,) = interquartile_means([scores], 0.95, 100, 0)
    assert found.mean == pytest.approx(0.8)
