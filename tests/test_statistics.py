"""Intervals cover what they claim to, and know that images of a group are not independent."""

import numpy as np

from segbench.statistics import interval, resampled_means


def test_intervals_cover_the_truth() -> None:
    """Of a thousand experiments with 40 groups, about 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 3).astype(str)
    covered = 0
    for trial in range(300):
        scores = np.repeat(rng.normal(0.5, 0.1, 40), 3) + rng.normal(0, 0.02, 120)
        found = interval(resampled_means(scores[None], groups, 400, trial), scores.mean(), 0.95)
        covered += found.low <= 0.5 <= found.high
    assert 0.89 < covered / 300 < 0.98


def test_groups_make_intervals_wider_than_images_would() -> None:
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.normal(0.5, 0.1, 10), 20)[None]
    alone = resampled_means(scores, np.arange(200).astype(str), 500, 0).std()
    grouped = resampled_means(scores, np.repeat(np.arange(10), 20).astype(str), 500, 0).std()
    assert grouped > 3 * alone


def test_same_groups_are_drawn_for_all() -> None:
    """So the difference of two candidates that differ by a constant has no spread."""
    rng = np.random.default_rng(0)
    scores, groups = rng.random((1, 60)), np.repeat(np.arange(12), 5).astype(str)
    difference = resampled_means(scores, groups, 200, 0) - resampled_means(
        scores + 0.1, groups, 200, 0
    )
    assert np.allclose(difference, -0.1)


def test_groups_and_runs_are_drawn_independently() -> None:
    """The spreads of two independent effects of equal size add in squares, not in full."""
    groups = np.array(["a", "b"])
    by_group = resampled_means(np.array([[0.0, 1.0]] * 2), groups, 2000, 0).std()
    both = resampled_means(np.array([[0.0, 1.0], [1.0, 2.0]]), groups, 2000, 0).std()
    assert 1.25 < both / by_group < 1.6


def test_images_without_score_are_left_out() -> None:
    scores = np.array([[0.2, np.nan, 0.4], [0.3, np.nan, 0.5]])
    means = resampled_means(scores, np.array(["a", "a", "b"]), 300, 0)
    assert np.nanmin(means) >= 0.2
    assert np.nanmax(means) <= 0.5
    assert not np.isnan(means).all()
