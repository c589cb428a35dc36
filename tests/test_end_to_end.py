"""The real thing: a fresh clone, real DVC, git and MLflow, the committed params shrunk."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo

from segbench.tracking.records import read_run
from segbench.tracking.views import unpacked
from support.opened import command_of, opened, unnamed, watch
from support.params import ROOT, read_params, shrink
from support.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore")


ALL = [
    *("download", "split", "augment"),
    *("train@mobilenetv2_035-0-0", "train@regnetx_002-0-0"),
    *("evaluate@mobilenetv2_035-0-0", "evaluate@regnetx_002-0-0"),
    *("measure", "compare"),
]


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A clone in which the pipeline has run once; the tests below go on from each other."""
    workspace = Workspace(tmp_path_factory.mktemp("author") / "clone", ROOT)
    workspace.change(shrink(read_params()))
    watch(workspace)
    assert sorted(workspace.repro()) == sorted(ALL)
    return workspace


def test_stages_read_what_dvc_yaml_says(author: Workspace) -> None:
    """So that what they make is made anew where that changes, and another machine has all of it.

    compare reads below folders that it does not depend on what the scores hold the hashes of.
    """
    found = opened(author.folder.with_name("notes"))
    stages = {command_of(stage): stage for stage in Repo(author.folder).index.stages}
    told = {
        stages[command].addressing.rpartition(":")[2]: unnamed(
            stages[command], paths, author.folder
        )
        for command, paths in found.items()
    }
    assert set(told) >= {*ALL} - {"download"}
    hashed = ("data/evaluate/", "data/train/", "data/augmentation.png")
    assert [path for path in told.pop("compare") if not path.startswith(hashed)] == []
    assert {stage: paths for stage, paths in told.items() if paths} == {}
    (train,) = (one for one in found if {"stages/train.py", "regnetx_002"} <= {*one})
    assert "data/arrays/dataset.json" in found[train]


def test_a_leaderboard_comes_out(author: Workspace) -> None:
    table = pd.read_csv(author.path("reports/comparison.csv"))
    assert sorted(table["candidate"]) == ["mobilenetv2_035", "regnetx_002"]
    assert table["val"].is_monotonic_decreasing
    assert table[["test_low", "test_high", "behind_p"]].isna().all(axis=None)
    page = author.path("reports/comparison.html").read_text()
    # Free to share, so embedded: two images on which they differ, and the third there is.
    assert page.count("data:image/jpeg;base64,") == 3 * 4
    # Nothing but the links to MLflow's views, which say neither an id nor another machine.
    view = "http://127.0.0.1:5000/views/synthetic-polyps/comparison-"
    for kind in ("leaderboard", "curves", "cost", "pictures"):
        assert f'<a href="{view}{kind}">{kind}</a>' in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace(view, "")
    text = author.path("reports/comparison.md").read_text()
    assert "| 1 |" in text
    assert f"[leaderboard]({view}leaderboard), [curves]({view}curves)" in text
    assert "All test images belong to one group" in text  # so nothing bounds the scores
    assert (
        author.path("data/compare/leaderboard.txt")
        .read_text()
        .endswith("report of 2 candidates in reports/comparison.html\n")
    )


@pytest.mark.slow
def test_training_runs_without_a_test_set(author: Workspace, tmp_path: Path) -> None:
    """dvc.yaml says that training does not depend on it; here it is not even there."""
    shutil.copytree(author.path("data/arrays"), tmp_path / "arrays")
    shutil.rmtree(tmp_path / "arrays" / "fold0" / "test")
    author.run(
        *("python", "stages/train.py", "--params", "params.yaml", "--candidate", "regnetx_002"),
        *("--fold", "0", "--seed", "7", "--arrays", str(tmp_path / "arrays")),
        *("--out", str(tmp_path / "out"), "--history", str(tmp_path / "history.csv")),
        *("--run", str(tmp_path / "run.json"), "--checkpoints", str(tmp_path / "checkpoints")),
    )
    assert (tmp_path / "out" / "weights.safetensors").exists()


def test_scores_are_those_of_the_rows(author: Workspace) -> None:
    for name, text in author.scores().items():
        folder = author.path(f"data/evaluate/{Path(name).stem}")
        rows, cells = pd.read_csv(folder / "images.csv"), np.load(folder / "counts.npz")
        for split in ("val", "test"):
            part = rows[rows["split"] == split]
            tp, fp, fn, _ = cells[split].sum(axis=(0, 1))
            scores = json.loads(text)
            assert scores[f"{split}/dice_micro"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
            assert scores[f"{split}/dice_per_image"] == pytest.approx(part["dice"].mean())


def test_mlflow_holds_every_run(author: Workspace) -> None:
    runs = {run.info.run_name: run for run in author.runs()}
    runs.pop("regnetx_002-fold0-seed7", None)  # of the test above, if that ran
    names = {"mobilenetv2_035-fold0-seed0", "regnetx_002-fold0-seed0"}
    (said,) = set(runs) - names
    table = pd.read_csv(author.path("reports/comparison.csv")).set_index("candidate")
    assert said == f"comparison: {table.index[0]} leads 2 candidates"
    parent = runs.pop(said)
    record = read_run(author.path("data/compare/record"))
    assert set(runs) == names
    commit = author.run("git", "rev-parse", "HEAD").strip()
    for name, run in runs.items():
        scores = json.loads(author.scores()[f"{name}.json"])
        tags, metrics = run.data.tags, run.data.metrics
        assert run.info.status == "FINISHED"
        assert metrics["test/dice_per_image"] == pytest.approx(scores["test/dice_per_image"])
        assert "epoch/val_dice_per_image" in metrics
        assert run.data.params["train.num_epochs"] == "2"
        assert tags["mlflow.source.git.commit"] == commit
        assert tags["dvc.stage"].startswith("train@")
        assert tags["evaluate.dvc.stage"].startswith("evaluate@")
        assert "dvc.md5.data/arrays" in tags
        assert f"evaluate.dvc.md5.data/train/{name}/weights.safetensors" in tags
        assert tags["segbench.weights_sha256"] == scores["sha256"]["weights"]
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["segbench.comparison.comparison"] == record.id
        assert metrics["comparison/test_dice"] == pytest.approx(scores["test/dice_per_image"])
        assert metrics["comparison/val_dice"] == pytest.approx(scores["val/dice_per_image"])
        assert metrics["comparison/rank"] == table.loc[name.partition("-")[0], "rank"]
        assert metrics["cost/parameters_M"] == pytest.approx(scores["parameters"] / 1e6, abs=1e-3)
        pictures = set(
            unpacked(record.views["comparison-pictures"])["compareRunCharts"][0]["imageKeys"]
        )
        drawn = author.path(f"data/evaluate/{name}/record/artifacts/images").iterdir()
        assert pictures == {path.stem.replace("~", "/") for path in drawn}
        (entry, *_) = run.inputs.dataset_inputs
        assert entry.dataset.name == "synthetic-polyps"
        assert run.outputs.model_outputs


def test_a_second_time_nothing_runs(author: Workspace) -> None:
    before = len(author.runs())
    assert author.repro() == []
    assert len(author.runs()) == before
    said = author.run(sys.executable, "-m", "segbench", "plan")
    assert "nothing to run" in said


@pytest.mark.slow
def test_the_same_params_give_the_same_digits(
    author: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In another clone, with nothing in any cache."""
    again = Workspace(tmp_path_factory.mktemp("again") / "clone", ROOT)
    again.change(shrink(read_params()))
    assert sorted(again.repro()) == sorted(ALL)
    assert again.scores() == author.scores()
    assert without_costs(pages(again)) == without_costs(pages(author))


def pages(workspace: Workspace) -> dict[str, str]:
    """All that compare writes for a reader."""
    paths = [
        *workspace.path("reports").glob("comparison.*"),
        *workspace.path("reports/candidates").iterdir(),
    ]
    return {path.name: path.read_text() for path in paths}


def without_costs(texts: dict[str, str]) -> dict[str, str]:
    """But for what was timed, which stands in one section of one page."""
    page = re.sub(
        '<h2 id="cost">.*(?=<h2 id="failures">)', "", texts["comparison.html"], flags=re.DOTALL
    )
    assert len(page) < len(texts["comparison.html"])
    return {**texts, "comparison.html": page}


@pytest.mark.slow
def test_comparing_again_changes_no_byte(author: Workspace) -> None:
    before = pages(author)
    assert len(before) == 4 + 2
    author.run("dvc", "repro", "--force", "--single-item", "compare")
    assert pages(author) == before


@pytest.mark.slow
def test_dvc_shows_the_candidates_beside_each_other(author: Workspace) -> None:
    (shown,) = json.loads(author.run("dvc", "metrics", "show", "--json")).values()
    table = pd.read_csv(author.path("reports/comparison.csv")).set_index("candidate")
    assert len(shown["data"]) == len(table)
    for path, found in shown["data"].items():
        row = table.loc[Path(path).stem]
        assert found["data"]["rank"] == row["rank"]
        assert found["data"]["test_dice"] == pytest.approx(row["test"])
        assert found["data"]["test_iou"] == pytest.approx(row["test_iou_per_image"])
    plots = json.loads(author.run("dvc", "plots", "show", "--json"))
    assert not plots.get("errors")
    assert "test score" in plots["data"]
    assert sum("reports/history" in name for name in plots["data"]) == len(table)


@pytest.mark.slow
def test_folds_are_an_axis_and_a_sticky_split_only_grows(author: Workspace, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "clone", ROOT)
    tree = shrink(read_params())
    tree["split"].update(num_folds=3, test_share=None, sticky=True)
    tree["comparison"].update(candidates=["mobilenetv2_035"], folds=[0, 2])
    workspace.change(tree)
    ran = workspace.repro()
    assert [stage for stage in ran if stage.startswith("train")] == [
        *("train@mobilenetv2_035-0-0", "train@mobilenetv2_035-2-0")
    ]
    first = pd.read_csv(workspace.path("reports/split.csv")).set_index(["fold", "id"])
    assert (first["split"] == "test").groupby("id").sum().eq(1).all()
    row = pd.read_csv(workspace.path("reports/comparison.csv")).iloc[0]
    tested = [
        pd.read_csv(workspace.path(f"data/evaluate/mobilenetv2_035-fold{fold}-seed0/images.csv"))
        for fold in (0, 2)
    ]
    images = pd.concat(table[table["split"] == "test"] for table in tested)
    assert images["id"].is_unique
    assert row["test"] == pytest.approx(images["dice"].mean())
    assert workspace.repro() == []

    # DVC removes what a stage made before it runs again; the split table has to stay for it.
    tree["dataset"]["num_sequences"] += 2
    workspace.change(tree)
    workspace.run("dvc", "repro", "split")
    grown = pd.read_csv(workspace.path("reports/split.csv")).set_index(["fold", "id"])
    assert len(grown) > len(first)
    assert grown.loc[first.index, "split"].equals(first["split"])


@pytest.mark.slow
def test_a_leak_stops_the_pipeline_and_a_warning_follows_the_numbers(
    author: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "clone", ROOT)
    shutil.copytree(author.path(".dvc/cache"), workspace.path(".dvc/cache"))
    tree = shrink(read_params())
    tree["split"]["by"] = "random"
    tree["comparison"]["candidates"] = ["mobilenetv2_035"]
    workspace.change(tree)
    said = workspace.run("dvc", "repro", fails=True)
    assert re.search(r"error: split: the split leaks: \d+ groups.* on both sides of it; see", said)
    assert "Traceback" not in said
    assert "on both sides" in workspace.path("reports/audit.html").read_text()
    assert not workspace.path("reports/split.csv").exists()
    tree["split"]["on_leak"] = "warn"
    workspace.change(tree)
    assert workspace.repro()[0] == "split"
    assert "**The split leaks (audit.html)" in workspace.path("reports/comparison.md").read_text()


@pytest.mark.slow
def test_adding_and_removing_candidates(
    author: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    remote = tmp_path_factory.mktemp("remote")
    hub = remote / "hub.git"
    command = ["git", "init", "--quiet", "--bare", "--initial-branch", "main", str(hub)]
    subprocess.run(command, check=True)
    author.run("git", "remote", "set-url", "origin", str(hub))
    author.run("dvc", "remote", "add", "--default", "local", str(remote / "dvc"))

    tree = shrink(read_params())
    tree["comparison"]["candidates"].append("resnet18")
    author.change(tree)
    said = author.run(sys.executable, "-m", "segbench", "plan")
    assert re.search(r"train resnet18 +1 ", said)
    assert not re.search(r"(train|evaluate) +mobilenetv2_035", said)
    assert "certainty: the test images of mobilenetv2_035, regnetx_002 are one group" in said
    new = ["train@resnet18-0-0", "evaluate@resnet18-0-0"]
    assert sorted(author.repro()) == sorted([*new, "measure", "compare"])
    costs = author.path("reports/costs.csv").read_text()
    assert len(costs.splitlines()) == 1 + 3
    publish(author, "three candidates")
    colleague = Workspace(remote / "colleague", hub)
    colleague.run("dvc", "pull")
    assert colleague.repro() == []

    tree["comparison"]["candidates"].remove("regnetx_002")
    author.change(tree)
    assert sorted(author.repro()) == ["compare", "measure"]
    assert author.path("reports/costs.csv").read_text() == costs  # all are known
    table = pd.read_csv(author.path("reports/comparison.csv"))
    assert sorted(table["candidate"]) == ["mobilenetv2_035", "resnet18"]
    assert "regnetx_002" not in author.path("reports/comparison.md").read_text()
    publish(author, "two candidates")
    # One who had the third, and one who never did.
    colleague.run("git", "pull", "--quiet")
    newcomer = Workspace(remote / "newcomer", hub)
    # As on a pull request, where no data are: the report stands.
    report = newcomer.run(sys.executable, "-m", "segbench", "review", "--pictures", "https://host")
    assert "](https://host/comparison.svg)" in report
    assert newcomer.path("reports/comparison.svg").is_file()
    for workspace in (colleague, newcomer):
        workspace.run("dvc", "pull")
        assert workspace.repro() == []
        assert "up to date" in workspace.run("dvc", "status")
    # Whoever pulls the records can fill an MLflow of their own.
    records = sorted(newcomer.path("data").rglob("record"))
    newcomer.run(sys.executable, "-m", "segbench", "sync")
    assert {run.info.run_name for run in newcomer.runs()} == {
        read_run(path).name for path in records
    }


def publish(workspace: Workspace, message: str) -> None:
    workspace.commit(message)
    workspace.run("dvc", "push")
    workspace.run("git", "push", "--quiet", "origin", "main")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree["split"].update(val_shares=0.1), "split.val_shares: unknown key"),
        (
            lambda tree: tree["dataset"].update(num_sequences=2),
            "cannot fill train, val, test; at least 3 groups are needed",
        ),
        (
            lambda tree: tree["candidates"]["mobilenetv2_035"].update(encoder="tu-mobilenet_035"),
            "mobilenetv2_035.encoder: timm has no 'mobilenet_035' (did you mean tu-mobilenet",
        ),
    ],
    ids=["key", "split", "encoder"],
)
def test_mistakes_end_a_stage_with_one_line(
    change: Any, said: str, author: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(tmp_path / "clone", ROOT)
    # What the author made already need not be made again.
    shutil.copytree(author.path(".dvc/cache"), copy.path(".dvc/cache"))
    tree = shrink(read_params())
    change(tree)
    copy.change(tree)
    output = copy.run("dvc", "repro", fails=True)
    assert said in output
    assert "Traceback" not in output
    assert len([line for line in output.splitlines() if line.startswith("error: ")]) == 1
