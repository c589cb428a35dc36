"""Seeds: how far they agree, and who is unstable."""

import numpy as np
import pytest

from segbench.comparison.statistics.seeds import stability, unstable


def test_stability_over_seeds() -> None:
    same = stability(np.array([[0.9, 0.8, 0.9], [0.5, 0.6, 0.4], [0.1, 0.2, 0.3]]))
    assert same.firsts == [1, 0, 0]
    assert same.agreement == pytest.approx(1)
    turned = stability(np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]]))
    assert turned.firsts == [0.5, 0, 0.5]
    assert turned.agreement == pytest.approx(-1)
    assert np.isnan(stability(np.array([[0.5], [0.6]])).agreement)


def test_an_unstable_candidate_is_named() -> None:
    rng = np.random.default_rng(0)
    means = 0.8 + rng.normal(0, 0.004, (5, 4))
    assert unstable(means, 0.05) == []
    means[3] += [0.1, -0.1, 0.05, -0.05]
    assert unstable(means, 0.05) == [3]
    assert unstable(means[:, :1], 0.05) == []
    assert unstable(means[:1], 0.05) == []


def test_equals_are_rarely_called_unstable() -> None:
    rng = np.random.default_rng(0)
    named = [bool(unstable(rng.normal(0.8, 0.01, (4, 3)), 0.05)) for _ in range(600)]
    assert np.mean(named) < 0.07
