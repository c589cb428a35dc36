"""A difference to a published score is as sure as said, in experiments whose truth is known."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.published import Reported, compare_with
from segbench.comparison.statistics.uncertainty import intervals

CONFIDENCE = 0.95


def single(scores: np.ndarray) -> Panel:
    """A group for each image of (C, S, N)."""
    number = scores.shape[2]
    return Panel(scores, np.arange(number).astype(str), np.zeros(number, int))


@pytest.mark.parametrize("published", [0.7, 0.8, 0.85])
def test_of_single_images_it_is_the_published_closed_form(published: float) -> None:
    """Christodoulou et al. 2025, for equal n and spread, and no correlation."""
    scores = np.random.default_rng(0).normal(0.8, 0.1, (1, 1, 40))
    spread = scores.std(ddof=1)
    found = compare_with(single(scores), 0, 40, spread, Reported(published, 40, None), CONFIDENCE)
    gap = scores.mean() - published
    expected = stats.t.cdf(np.sqrt(40) * gap / np.sqrt(2 * spread**2), 39)
    assert found.p_ours == pytest.approx(expected)
    half = stats.t.ppf(0.975, 39) * spread * np.sqrt(2 / 40)
    assert found.difference.mean == pytest.approx(gap)
    assert found.difference.high - gap == pytest.approx(half)
    assert found.ours == intervals(single(scores), CONFIDENCE)[0]


def test_a_published_spread_takes_the_place_of_ours() -> None:
    scores = np.random.default_rng(0).normal(0.8, 0.1, (1, 1, 40))
    spread = scores.std(ddof=1)
    found = compare_with(single(scores), 0, 40, spread, Reported(0.75, 90, 0.2), CONFIDENCE)
    error = np.sqrt(spread**2 / 40 + 0.2**2 / 90)
    assert found.p_ours == pytest.approx(stats.t.cdf((scores.mean() - 0.75) / error, 39))
    assert found.published.high == pytest.approx(0.75 + stats.t.ppf(0.975, 39) * 0.2 / np.sqrt(90))


def test_frames_of_a_sequence_are_not_worth_as_many_images() -> None:
    """Of ours and so of the published ones, with or without their spread."""
    of_groups = np.random.default_rng(0).normal(0.8, 0.1, 20)
    groups = np.repeat(np.arange(20), 5).astype(str)
    panel = Panel(np.repeat(of_groups, 5)[None, None], groups, np.zeros(100, int))
    spread = np.repeat(of_groups, 5).std(ddof=1)
    whole = of_groups.std(ddof=1) * np.sqrt(2 / 20)
    for sd in (None, spread):
        found = compare_with(panel, 0, 100, spread, Reported(0.78, 100, sd), CONFIDENCE)
        expected = stats.t.cdf((of_groups.mean() - 0.78) / whole, 19)
        assert found.p_ours == pytest.approx(expected, rel=1e-9)


def test_a_ratio_of_sums_is_bounded_by_leaving_groups_out() -> None:
    rng = np.random.default_rng(1)
    whole = rng.integers(100, 5000, 60).astype(float)
    part = whole * rng.beta(8, 2, 60)
    groups = np.repeat(np.arange(15), 4)
    panel = Panel(
        (part / whole)[None, None],
        groups.astype(str),
        np.zeros(60, int),
        (whole / whole.sum())[None, None],
    )
    assert panel.means[0] == pytest.approx(part.sum() / whole.sum())
    without = [
        part[groups != group].sum() / whole[groups != group].sum() for group in np.unique(groups)
    ]
    taken = panel.groups.influences[0] / (1 - panel.groups.weights[0])
    assert sorted(panel.means[0] - taken) == pytest.approx(sorted(without))


@pytest.mark.parametrize(
    "scores",
    [np.full((1, 1, 20), 1.0), np.array([[[0.7]]])],
    ids=["without any spread", "one group"],
)
def test_what_nothing_bounds_has_no_probability(scores: np.ndarray) -> None:
    number = scores.shape[2]
    found = compare_with(single(scores), 0, number, 0.0, Reported(0.5, 61, None), CONFIDENCE)
    assert np.isnan([found.p_ours, found.difference.low, found.published.high]).all()
    assert found.difference.mean == pytest.approx(scores.mean() - 0.5)


class Design(NamedTuple):
    """An experiment of ours, and one that was published; standard deviations of dice."""

    groups: int = 25
    seeds: int = 1
    folds: int = 1
    of_trainings: float = 0.0
    published_groups: int = 15
    says_spread: bool = False


def drawn(rng: np.random.Generator, groups: int, trainings: int, of_trainings: float) -> tuple:
    """Scores (S, N) around 0, and the group of each image."""
    group = np.repeat(np.arange(groups), rng.integers(1, 7, groups))
    images = 0.05 * (1 - rng.exponential(1, len(group)))
    hard = rng.normal(0, 0.06, groups)[group] + images
    own = rng.normal(0, 0.03, (trainings, len(group)))
    return hard + own + rng.normal(0, of_trainings, (trainings, 1)), group


DESIGNS = {
    "one training": Design(),
    "few groups": Design(groups=8),
    "a large published set": Design(published_groups=200),
    "a published spread": Design(says_spread=True),
    "three seeds": Design(seeds=3, of_trainings=0.03),
    "five folds": Design(groups=50, folds=5, of_trainings=0.03),
}


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_what_is_called_real_is_real(design: Design) -> None:
    """True differences are as large as those between methods that papers list for one dataset:
    the pooled dice of DUCK-Net's eight differs by 0.04 to 0.14 on four datasets of polyps."""
    rng = np.random.default_rng(0)
    said = right = covered = 0
    number = 500
    for _ in range(number):
        truth = rng.normal(0, 0.1)
        of_seeds = design.of_trainings if design.folds == 1 else 0.0
        scores, group = drawn(rng, design.groups, design.seeds, of_seeds)
        fold = group % design.folds
        if design.folds > 1:
            scores = scores + rng.normal(0, design.of_trainings, design.folds)[fold]
        panel = Panel(0.7 + truth + scores[None], group.astype(str), fold)
        theirs, _ = drawn(rng, design.published_groups, 1, design.of_trainings)
        reported = Reported(
            0.7 + float(theirs.mean()),
            theirs.shape[1],
            float(theirs.std(ddof=1)) if design.says_spread else None,
        )
        spread = float(scores.std(axis=1, ddof=1).mean())
        found = compare_with(panel, 0, scores.shape[1], spread, reported, CONFIDENCE)
        covered += found.difference.low <= truth <= found.difference.high
        if max(found.p_ours, 1 - found.p_ours) >= CONFIDENCE:
            said += 1
            right += (found.p_ours > 0.5) == (truth > 0)
    assert said > 0.3 * number
    assert right / said >= 0.93
    assert 0.92 <= covered / number <= 0.99


@pytest.mark.parametrize("name", ["one training", "three seeds"])
def test_without_a_true_difference_one_in_ten_is_called_real(name: str) -> None:
    design, rng, said, number = DESIGNS[name], np.random.default_rng(1), 0, 500
    for _ in range(number):
        scores, group = drawn(rng, design.groups, design.seeds, design.of_trainings)
        theirs, _ = drawn(rng, design.published_groups, 1, design.of_trainings)
        panel = Panel(0.7 + scores[None], group.astype(str), np.zeros(len(group), int))
        reported = Reported(0.7 + float(theirs.mean()), theirs.shape[1], None)
        found = compare_with(panel, 0, scores.shape[1], np.nan, reported, CONFIDENCE)
        said += max(found.p_ours, 1 - found.p_ours) >= CONFIDENCE
    assert said / number <= 0.12
