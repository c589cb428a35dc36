"""External sets confirm the champion or not; they choose nothing, and their order is shown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segbench.comparison.external import (
    ExternalSet,
    judge,
    read_external_sets,
    write_external,
)
from segbench.comparison.leaderboard import make_leaderboard
from segbench.errors import InputError
from segbench.evaluation.outputs import write_counts, write_images
from segbench.evaluation.results import RunResult
from segbench.params import Params
from support.comparison import DICE, FACTS, by_split, elsewhere, evaluated
from support.own_folder import own


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    tree["comparison"].update(
        candidates=["mobilenetv2_035", "regnetx_002", "resnet18"], seeds=[0, 1], num_resamples=200
    )
    tree["comparison"]["external"] = {"clinic": own(Path("clinic")).model_dump()}
    return Params.model_validate(tree)


def runs_of(params: Params) -> list[RunResult]:
    """The first is the champion, the second behind it, the third last, on validation and test."""
    return [
        evaluated(alias, seed, 0.9 - at / 10, 0.8 - at / 10)
        for at, alias in enumerate(params.comparison.candidates)
        for seed in params.comparison.seeds
    ]


def judged(params: Params, *means: float, **facts: Any) -> ExternalSet:
    runs = runs_of(params)
    own_mean = dict(zip(params.comparison.candidates, means, strict=True))
    there = [elsewhere(run, "clinic", own_mean[run.alias]) for run in runs]
    board = make_leaderboard(params, runs)
    return judge(params.comparison, board, "clinic", {**FACTS, **facts}, there)


def test_the_same_order_is_said(params: Params) -> None:
    found = judged(params, 0.7, 0.6, 0.4)
    assert [(row.alias, row.rank, row.test_rank) for row in found.rows] == [
        *(("mobilenetv2_035", 1, 1), ("regnetx_002", 2, 2), ("resnet18", 3, 3))
    ]
    assert found.sentence.startswith(
        "mobilenetv2_035, the champion on validation, is also first on clinic, with dice 0.700 ["
    )
    assert found.sentence.endswith(
        "No two candidates change their order between the test set and clinic."
    )
    assert found.warning == ""


def test_a_change_of_the_order_is_said(params: Params) -> None:
    found = judged(params, 0.6, 0.7, 0.4)
    assert [(row.alias, row.rank, row.test_rank) for row in found.rows] == [
        *(("regnetx_002", 1, 2), ("mobilenetv2_035", 2, 1), ("resnet18", 3, 3))
    ]
    assert (
        "mobilenetv2_035, the champion on validation, is not first on clinic but number 2 of 3, "
        "with dice 0.600 ["
    ) in found.sentence
    assert "]; regnetx_002 is, with 0.700 [" in found.sentence
    assert found.sentence.endswith(
        "Of 3 pairs of candidates, 1 changes the order between the test set and clinic: "
        "mobilenetv2_035 and regnetx_002."
    )
    assert "3 change the order" in judged(params, 0.4, 0.5, 0.6).sentence


def test_scores_are_means_over_the_rows_of_all_runs(params: Params) -> None:
    first = judged(params, 0.7, 0.6, 0.4).rows[0]
    there = [elsewhere(run, "clinic", 0.7) for run in runs_of(params)[:2]]
    rows = pd.concat([run.images for run in there])
    assert first.score.mean == pytest.approx(rows["dice"].mean())
    assert first.score.low < first.score.mean < first.score.high
    assert first.scores["recall"] == pytest.approx(rows["recall"].mean())
    assert first.pooled["precision"] == pytest.approx(0.7)
    assert first.test.mean == pytest.approx(
        make_leaderboard(params, runs_of(params)).rows[0].test.mean
    )


def test_networks_of_all_folds_are_scored_on_all_images(params: Params) -> None:
    chosen = params.comparison.model_copy(update={"candidates": ["resnet18"]})
    runs = [evaluated("resnet18", seed, 0.7, 0.6) for seed in (0, 1)]
    runs += [replace(run, fold=1, name=run.name.replace("fold0", "fold1")) for run in runs]
    there = [elsewhere(run, "clinic", 0.3 + 0.2 * run.fold) for run in runs]
    board = make_leaderboard(params.model_copy(update={"comparison": chosen}), runs)
    (row,) = judge(chosen, board, "clinic", FACTS, there).rows
    assert row.score.mean == pytest.approx(0.4, abs=0.01)
    assert row.score.low < row.score.mean < row.score.high


def test_one_candidate_has_no_order(params: Params) -> None:
    chosen = params.comparison.model_copy(update={"candidates": ["resnet18"]})
    said = judged(params.model_copy(update={"comparison": chosen}), 0.7).sentence
    assert said.startswith("On clinic, resnet18 reaches dice 0.700 [")


def test_a_candidate_without_any_score_has_no_rank(params: Params) -> None:
    runs = runs_of(params)
    board = make_leaderboard(params, runs)
    there = [elsewhere(run, "clinic", 0.5 - at / 100) for at, run in enumerate(runs)]
    for run in there[:2]:
        run.images["dice"] = np.nan
    found = judge(params.comparison, board, "clinic", FACTS, there)
    assert [row.rank for row in found.rows] == [1, 2, None]
    assert found.rows[-1].alias == "mobilenetv2_035"
    assert found.sentence == (
        "mobilenetv2_035, the champion on validation, has no dice on clinic: truth and prediction "
        "are empty in all images."
    )


def test_images_that_were_trained_on_are_told(params: Params) -> None:
    seen = {"exact_duplicates": 2, "near_duplicates": 1, "annotated_copies": 0}
    assert judged(params, 0.7, 0.6, 0.4, in_training=seen).warning == (
        "3 of the 60 images of clinic show what a training image shows "
        "(data/external/clinic/leaks.csv), so its scores are optimistic."
    )


def left(runs: list[RunResult], folder: Path) -> tuple[Path, Path]:
    """Files of the scores on a set, as the stages leave them."""
    metrics, sets = folder / "metrics", folder / "external"
    (metrics / "external/clinic").mkdir(parents=True)
    (metrics / "external/clinic.json").write_text(json.dumps(FACTS))
    for run in runs:
        run.trained["weights_sha256"] = "w"
        own_run = elsewhere(run, "clinic", 0.5)
        rows = sets / "clinic/evaluate" / run.name / "images.csv"
        rows.parent.mkdir(parents=True)
        own_run.summary["sha256"] |= {
            "images": write_images(rows, own_run.images),
            "counts": write_counts(rows.with_name("counts.npz"), by_split(own_run)),
        }
        text = json.dumps(own_run.summary)
        (metrics / f"external/clinic/{run.name}.json").write_text(text)
    return metrics, sets


def test_what_the_stages_left_is_read_and_written_as_a_table(
    params: Params, tmp_path: Path
) -> None:
    runs = runs_of(params)
    board = make_leaderboard(params, runs)
    found = read_external_sets(params.comparison, board, runs, *left(runs, tmp_path))
    assert [one.name for one in found] == ["clinic"]
    write_external(found, DICE, tmp_path / "external.csv")
    table = pd.read_csv(tmp_path / "external.csv")
    assert table["candidate"].tolist() == [row.alias for row in found[0].rows]
    assert table["rank"].tolist() == [row.rank for row in found[0].rows]
    assert table["dice_per_image"].to_numpy() == pytest.approx(table["score"].to_numpy())
    write_external([], DICE, tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().startswith("external,candidate,rank,test_rank,score")
    assert len(pd.read_csv(tmp_path / "none.csv")) == 0


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("metrics/external/clinic.json", '"d"', '"e"', "are of other images than those that are"),
        ("metrics/external/clinic/{}.json", '"weights": "w"', '"weights": "x"', "of other weights"),
        ("external/clinic/evaluate/{}/images.csv", "g001", "g002", "not the rows that"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    path: str, old: str, new: str, said: str, params: Params, tmp_path: Path
) -> None:
    runs = runs_of(params)
    folders = left(runs, tmp_path)
    changed = tmp_path / path.format(runs[0].name)
    assert old in changed.read_text()
    changed.write_text(changed.read_text().replace(old, new))
    with pytest.raises(InputError, match=said):
        read_external_sets(params.comparison, make_leaderboard(params, runs), runs, *folders)
