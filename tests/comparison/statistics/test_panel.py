"""Scores are summed over the units that vary, and only over those that say something."""

import numpy as np
import pytest
from scipy import stats

from segbench.comparison.statistics.panel import Panel, cluster_variance


def panel(scores: np.ndarray, groups: str) -> Panel:
    """A letter for each image's group; one fold."""
    return Panel(scores, np.array([*groups]), np.zeros(len(groups), int))


def test_images_without_score_are_left_out() -> None:
    found = panel(np.array([[[0.2, np.nan, 0.4], [0.3, np.nan, 0.5]]]), "aab")
    assert found.means == pytest.approx([0.35])
    assert found.seed_means == pytest.approx(np.array([[0.3, 0.4]]))


def test_groups_without_any_score_do_not_count() -> None:
    """Four that were scored and sixteen healthy ones are four, not twenty."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0.7, 0.1, (2, 1, 20))
    scores[:, :, 4:] = np.nan
    found = panel(scores, "abcdefghijklmnopqrst")
    assert found.num_groups == 4
    assert found.groups.effective == pytest.approx([4, 4])
    of_four = panel(scores[:, :, :4], "abcd")
    both = np.array([0, 1])
    for ours, theirs in zip(
        cluster_variance(found.groups, both), cluster_variance(of_four.groups, both), strict=True
    ):
        assert ours == pytest.approx(theirs)


def test_of_equal_groups_it_is_the_jackknife() -> None:
    rng = np.random.default_rng(0)
    scores, groups = rng.random((2, 3, 12)), "aaabbbcccddd"
    found = panel(scores, groups)
    without = np.array(
        [
            scores[:, :, [at for at, own in enumerate(groups) if own != group]].mean((1, 2))
            for group in "abcd"
        ]
    )
    variance, degrees = cluster_variance(found.groups, np.array([0]), np.array([1]))
    gaps = without[:, 0] - without[:, 1]
    assert variance == pytest.approx([((gaps - gaps.mean()) ** 2).sum() * 3 / 4])
    assert degrees == pytest.approx([3])


def test_groups_that_are_unequal_are_weighed_without_bias() -> None:
    """A jackknife would take the variance for half as much again."""
    rng = np.random.default_rng(0)
    sizes = np.array([20, 3, 2, 4, 2, 1])
    groups = np.repeat(np.arange(6), sizes).astype(str)
    means, said = [], []
    for _ in range(3000):
        scores = np.repeat(rng.normal(0.5, 0.1, 6) / np.sqrt(sizes), sizes)[None, None]
        found = Panel(scores - np.repeat(0.5 / np.sqrt(sizes), sizes), groups, np.zeros(32, int))
        means.append(found.means[0])
        said.append(cluster_variance(found.groups, np.array([0]))[0][0])
    assert np.mean(said) == pytest.approx(np.var(means), rel=0.07)
    assert cluster_variance(found.groups, np.array([0]))[1] == pytest.approx(
        [1 / ((sizes / 32) ** 2).sum() - 1]
    )


def test_what_groups_do_in_single_seeds_counts_once() -> None:
    """Alone it makes seeds differ; the variance of groups has it, so that little is left for
    seeds: what chance leaves above 0."""
    rng = np.random.default_rng(0)
    left, before, paired = [], [], []
    for _ in range(300):
        found = panel(rng.normal(0.5, 0.1, (4, 3, 25)), "abcdefghijklmnopqrstuvwxy")
        plain = found.seed_means.var(axis=1, ddof=1) / 3
        left.append((plain - found.seed_noise).mean())
        before.append(plain.mean())
        paired.append(found.paired_seed_variances[0].mean())
    assert abs(np.mean(left)) < 0.05 * np.mean(before)
    assert np.mean(paired) < np.mean(before)  # else half as much again, by own or pooled


def test_the_images_of_folds_are_clusters() -> None:
    scores = np.arange(8.0).reshape(1, 1, 8) / 10
    found = Panel(scores, np.array([*"abcdefgh"]), np.array([0, 0, 1, 1, 1, 2, 2, 2]))
    assert (found.num_groups, found.num_folds) == (8, 3)
    assert found.folds.parts.sum() == pytest.approx(found.means[0])
    assert found.folds.weights == pytest.approx(np.array([[2, 3, 3]]) / 8)
    assert found.folds.influences.sum() == pytest.approx(0)


def test_seeds_that_happen_to_agree_do_not_pass_for_certainty() -> None:
    """Its own variance is 0, that of all together is not; the unsteady one keeps its own."""
    scores = np.array([[0.7, 0.7], [0.6, 0.8]])[:, :, None] + np.linspace(-0.1, 0.1, 9)
    variances, degrees = panel(scores, "abcdefghi").seed_variances
    assert variances == pytest.approx([0.02 / 2 / 2, 0.02 / 2])  # half of the other's; its own
    assert degrees.tolist() == [2, 1]


def test_what_a_seed_does_to_all_cancels_in_differences() -> None:
    """Of two candidates the variance is that of Student's paired test, to the degree of freedom."""
    rng = np.random.default_rng(0)
    of_seeds = rng.normal(0.7, 0.1, (2, 5))
    expected = stats.ttest_rel(*of_seeds)
    for shared in (np.zeros(5), rng.normal(0, 1, 5)):
        found = panel((of_seeds + shared)[:, :, None] + np.linspace(-0.1, 0.1, 9), "abcdefghi")
        variances, degrees = found.paired_seed_variances
        difference = of_seeds[0].mean() - of_seeds[1].mean()
        assert difference / np.sqrt(variances.sum()) == pytest.approx(expected.statistic)
        assert degrees.tolist() == [4, 4]


def test_groups_make_means_less_certain_than_images_would() -> None:
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.normal(0.5, 0.1, 10), 20)[None, None]
    one = np.array([0])
    alone = Panel(scores, np.arange(200).astype(str), np.zeros(200, int))
    grouped = Panel(scores, np.repeat(np.arange(10), 20).astype(str), np.zeros(200, int))
    assert cluster_variance(grouped.groups, one)[0] > 9 * cluster_variance(alone.groups, one)[0]
