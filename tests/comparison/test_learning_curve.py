"""Points of a learning curve say whether more training groups would help, and compete with none."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.comparison.leaderboard import make_leaderboard
from segbench.comparison.learning_curve import LearningCurve, find_learning_curves
from segbench.comparison.page import write_report
from segbench.comparison.requirements import report_values
from segbench.errors import InputError
from segbench.evaluation.results import RunResult
from segbench.params import Params
from support.comparison import COST, evaluated
from support.report import content

GROUPS = {0.25: 8, 0.5: 16, 1.0: 32}


def with_curve(tree: dict[str, Any], **chosen: Any) -> Params:
    """resnet18 on a quarter, half and all of the groups, beside regnetx_002."""
    for alias, share in (("half", 0.5), ("quarter", 0.25)):
        tree["candidates"][alias] = {**tree["candidates"]["resnet18"], "train_share": share}
    tree["comparison"].update(
        candidates=["half", "resnet18", "regnetx_002", "quarter"],
        **{"seeds": [0, 1, 2], "num_resamples": 500, **chosen},
    )
    return Params.model_validate(tree)


def runs_of(params: Params, groups: int = 30, **scores: float) -> list[RunResult]:
    """A run for each seed, with this score on test, or 0.6; the others' on validation are worse."""
    runs = []
    for key in params.comparison.runs:
        run = evaluated(
            key.candidate, key.seed, 0.8, scores.get(key.candidate, 0.6), groups, key.fold
        )
        run.trained["train_groups"] = GROUPS[params.candidates[key.candidate].train_share]
        runs.append(run)
    return runs


def curve_of(params: Params, runs: list[RunResult]) -> LearningCurve:
    (curve,) = find_learning_curves(params, make_leaderboard(params, runs), runs)
    return curve


def test_points_are_not_in_the_leaderboard(tree: dict[str, Any]) -> None:
    """The same scores with and without a curve give the same leaderboard, though a point leads."""
    params = with_curve(tree)
    runs = runs_of(params, half=0.9, resnet18=0.7)
    board = make_leaderboard(params, runs)
    assert sorted(board.aliases) == ["regnetx_002", "resnet18"]
    tree["comparison"]["candidates"] = ["resnet18", "regnetx_002"]
    without = Params.model_validate(tree)
    alone = [run for run in runs if run.alias in without.comparison.candidates]
    assert repr(board) == repr(make_leaderboard(without, alone))
    known = report_values(board, dict.fromkeys(board.aliases, COST))
    assert "behind_of_regnetx_002" in known or "behind_of_resnet18" in known
    assert not any(point in name for name in known for point in ("half", "quarter"))
    assert find_learning_curves(without, board, alone) == []


def test_a_curve_has_its_points_in_order_and_the_gain_of_the_last(tree: dict[str, Any]) -> None:
    params = with_curve(tree)
    runs = runs_of(params, quarter=0.5, half=0.65, resnet18=0.75)
    curve = curve_of(params, runs)
    assert [(one.alias, one.share, one.groups) for one in curve.points] == [
        *(("quarter", 0.25, (8, 8)), ("half", 0.5, (16, 16)), ("resnet18", 1.0, (32, 32)))
    ]
    assert curve.gain.interval.mean == pytest.approx(
        curve.points[-1].test.mean - curve.points[-2].test.mean
    )
    assert curve.gain.interval.mean == pytest.approx(0.1, abs=0.02)
    (row,) = (row for row in make_leaderboard(params, runs).rows if row.alias == "resnet18")
    assert (curve.points[-1].val, curve.points[-1].test) == (row.val, row.test)
    for point in curve.points:
        assert point.test.low < point.test.mean < point.test.high


def test_a_rising_curve(tree: dict[str, Any]) -> None:
    params = with_curve(tree)
    said = curve_of(params, runs_of(params, half=0.6, resnet18=0.7)).sentence
    assert re.fullmatch(
        r"From 50 % to all of the 32 training groups, resnet18 gained dice 0\.(09|10)\d "
        r"\[0\.\d{3}, 0\.\d{3}\] on test: more training groups would probably help\.",
        said,
    )


def test_a_flat_curve(tree: dict[str, Any]) -> None:
    params = with_curve(tree)
    runs = runs_of(params)
    same = {(run.seed): run.images for run in runs if run.alias == "resnet18"}
    runs = [replace(run, images=same[run.seed]) for run in runs]
    assert curve_of(params, runs).sentence.endswith(
        "on test: that is within 0.01, so twice as many training groups would hardly help."
    )
    tree["candidates"]["half"]["train_share"] = 0.8
    other = Params.model_validate(tree)
    for run in runs:
        run.trained["train_groups"] = 32 if run.alias == "resnet18" else 25
    said = curve_of(other, runs).sentence
    assert "From 80 % to all of the 32" in said
    assert "so 1.2 times as many training groups would hardly help" in said


def test_a_curve_that_the_test_set_cannot_tell(tree: dict[str, Any]) -> None:
    params = with_curve(tree)
    runs = runs_of(params, half=0.6, resnet18=0.6)
    for run in runs:
        noise = np.random.default_rng(len(run.name) + run.seed).normal(0, 0.1, len(run.images))
        run.images["dice"] = (run.images["dice"] + noise).clip(0, 1)
    assert curve_of(params, runs).sentence.endswith(
        "no evidence that more training groups would help, nor that they would not."
    )


def test_a_falling_curve(tree: dict[str, Any]) -> None:
    params = with_curve(tree)
    said = curve_of(params, runs_of(params, half=0.8, resnet18=0.6)).sentence
    assert "training groups, resnet18 lost dice 0." in said
    assert ": the groups that the smaller share leaves out did not help; see whether" in said


def test_one_seed_claims_nothing_of_trainings(tree: dict[str, Any]) -> None:
    params = with_curve(tree, seeds=[0])
    said = curve_of(params, runs_of(params, half=0.6, resnet18=0.7)).sentence
    assert said.startswith("As trained here, from 50 % to all of the 32 training groups, resnet18")
    assert said.endswith(
        "would probably help. This holds for these trained networks; how much of it is chance in "
        "training takes 3 seeds or 3 folds to say."
    )


def test_folds_may_have_other_numbers_of_groups(tree: dict[str, Any]) -> None:
    tree["split"].update(num_folds=3, test_share=None)
    params = with_curve(tree, folds=[0, 1, 2], seeds=[0])
    runs = runs_of(params, half=0.6, resnet18=0.7)
    for run in runs:
        run.trained["train_groups"] -= run.fold
    curve = curve_of(params, runs)
    assert [point.groups_text for point in curve.points] == ["6 to 8", "14 to 16", "30 to 32"]
    assert curve.sentence.startswith("From 50 % to all of the 30 to 32 training groups, resnet18")


def test_a_run_that_counted_no_groups_is_refused(tree: dict[str, Any]) -> None:
    params = with_curve(tree)
    runs = runs_of(params)
    del runs[-1].trained["train_groups"]
    said = (
        "quarter-fold0-seed2: its run file has no 'train_groups'.*'segbench repro -f -s train@quart"
    )
    with pytest.raises(InputError, match=said):
        curve_of(params, runs)


@pytest.mark.parametrize("groups", [1, 4])
def test_few_test_groups_tell_nothing(groups: int, tree: dict[str, Any]) -> None:
    params = with_curve(tree)
    said = curve_of(params, runs_of(params, groups, half=0.5, resnet18=0.9)).sentence
    assert said.endswith("on test; the test set has too few groups to tell that from chance.")


def test_several_curves_are_one_family(tree: dict[str, Any]) -> None:
    params = with_curve(tree)
    alone = curve_of(params, runs_of(params, half=0.6, resnet18=0.62))
    tree["candidates"]["other"] = {**tree["candidates"]["regnetx_002"], "train_share": 0.5}
    tree["comparison"]["candidates"].append("other")
    params = Params.model_validate(tree)
    runs = runs_of(params, half=0.6, resnet18=0.62, other=0.3)
    board = make_leaderboard(params, runs)
    curves = find_learning_curves(params, board, runs)
    assert [curve.points[-1].alias for curve in curves] == board.aliases
    (same,) = (curve for curve in curves if curve.points[-1].alias == "resnet18")
    assert same.gain.interval.mean == alone.gain.interval.mean
    assert same.gain.error == alone.gain.error  # though both curves lose the same groups
    assert same.gain.reach > alone.gain.reach
    assert same.gain.p >= alone.gain.p


def test_the_report_has_a_section_where_there_is_a_curve(
    params: Params, tree: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "reports").mkdir()
    pages = [tmp_path / "reports" / f"comparison.{ending}" for ending in ("md", "html")]
    found = content(params, tmp_path, redistributable=True)
    write_report(found, tmp_path / "reports")
    assert not any("Would more training data help?" in page.read_text() for page in pages)
    curved = with_curve(tree)
    runs = runs_of(curved, quarter=0.4, half=0.6, resnet18=0.7)
    curve = curve_of(curved, runs)
    found = replace(found, learning_curves=[replace(curve, points=_of_rival(curve, params))])
    write_report(found, tmp_path / "reports")
    for page in pages:
        text = page.read_text()
        assert text.count("Would more training data help?") == 1
        assert curve.sentence.split(" [")[0] in text
        for said in ("quarter", "25 %", "half", "50 %", "nothing is extrapolated"):
            assert said in text


def _of_rival(curve: LearningCurve, params: Params) -> list[Any]:
    """The points, as if they were of a candidate of the made-up report."""
    last = replace(curve.points[-1], alias=params.comparison.candidates[0])
    return [*curve.points[:-1], last]
