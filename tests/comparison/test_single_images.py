"""What a mean hides: the worst images, those without an object, and the rule for these."""

import numpy as np
import pandas as pd
import pytest

from segbench.comparison.single_images import ranks, spread_over_images
from segbench.evaluation.results import RunResult
from support.comparison import DICE, evaluated


def _test_rows(run: RunResult) -> pd.Index:
    run.images.index = pd.RangeIndex(len(run.images))
    return run.images.index[run.images["split"] == "test"]


@pytest.fixture
def runs() -> list[RunResult]:
    """Of 60 test images 6 are empty: `a` leaves 4 of them empty and `b` all, `a` is else better."""
    found = [evaluated(alias, 0, 0.7, 0.6) for alias in ("a", "b")]
    for run, score, right in zip(found, (0.8, 0.75), (4, 6), strict=True):
        test = _test_rows(run)
        run.images.loc[test, "dice"] = score
        run.images.loc[test, "object_size"] = 0.1
        run.images.loc[test[:6], "object_size"] = 0.0
        run.images.loc[test[:6], "dice"] = [np.nan] * right + [0.0] * (6 - right)
        run.images.loc[test, "group"] = [str(at) for at in range(len(test))]
        assert len(test) == 60
    return found


def test_images_without_an_object_are_a_question_of_their_own(runs: list[RunResult]) -> None:
    found = spread_over_images(runs, ["a", "b"], DICE, 0.95)
    assert found.empty == 6
    assert [one.mean for one in found.left_empty] == pytest.approx([4 / 6, 1.0])
    first = found.left_empty[0]
    assert first.low < 4 / 6 < first.high <= 1


def test_the_rule_for_empty_images_can_turn_the_ranking(runs: list[RunResult]) -> None:
    by_rule = spread_over_images(runs, ["a", "b"], DICE, 0.95).by_rule
    assert by_rule["left out"] == pytest.approx([54 * 0.8 / 56, 0.75])
    assert by_rule["count as 1"] == pytest.approx([(54 * 0.8 + 4) / 60, (54 * 0.75 + 6) / 60])
    assert by_rule["objects only"] == pytest.approx([0.8, 0.75])
    assert ranks(by_rule["left out"]) == [1, 2]
    assert ranks(by_rule["count as 1"]) == [1, 2]


def test_median_and_worst_tenth(runs: list[RunResult]) -> None:
    found = spread_over_images(runs, ["a", "b"], DICE, 0.95)
    # Of 56 scores of `a`, the worst 6 are two zeros and four of the others.
    assert found.worst == pytest.approx([4 * 0.8 / 6, 0.75])
    assert found.median == pytest.approx([0.8, 0.75])


def test_seeds_are_averaged_over_those_that_have_a_score() -> None:
    runs = [evaluated("a", seed, 0.7, 0.6) for seed in (0, 1)]
    test = [_test_rows(run) for run in runs]
    runs[0].images.loc[test[0][0], "dice"] = np.nan
    found = spread_over_images(runs, ["a"], DICE, 0.95)
    assert found.scores[0, 0] == pytest.approx(runs[1].images.loc[test[1][0], "dice"])


def test_ranks_by_mean_alone() -> None:
    assert ranks(np.array([0.5, 0.7, np.nan, 0.7])) == [3, 1, None, 1]
    assert ranks(np.array([5.0, 7.0]), lower_is_better=True) == [1, 2]
