"""External test sets come and go in a comparison that is done: real DVC, git and MLflow."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from support.own_folder import make_source, own
from support.params import ROOT, read_params, shrink
from support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RUN = "mobilenetv2_035-0-0"
PER_SET = ["download_external", "audit_external", "augment_external"]


def small() -> dict[str, Any]:
    """The shrunk params with one candidate."""
    tree = shrink(read_params())
    tree["comparison"]["candidates"] = ["mobilenetv2_035"]
    return tree


def generated(seed: int, contrast: float) -> dict[str, Any]:
    """Another camera: polyps of other sequences, size and contrast."""
    return {
        **{"name": "synthetic-polyps", "seed": seed, "num_sequences": 4, "frames_per_sequence": 2},
        **{"height": 90, "width": 70, "contrast": contrast},
    }


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A clone in which a comparison without external sets has run."""
    workspace = Workspace(tmp_path_factory.mktemp("author") / "clone", ROOT)
    workspace.change(small())
    assert [stage for stage in workspace.repro() if "external" in stage] == []
    return workspace


def made(workspace: Workspace) -> dict[str, bytes]:
    """What was there before any external set, but for what compare writes."""
    folders = ("reports", "data/train", "data/evaluate", "data/arrays")
    files = [path for one in folders for path in workspace.path(one).rglob("*") if path.is_file()]
    names = {path.relative_to(workspace.folder).as_posix(): path for path in files}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if not re.match(r"reports/(metrics/external/|external.csv|comparison.(md|html))", name)
    }


def mlflow_of(workspace: Workspace) -> dict[str, dict[str, float]]:
    """The last metrics of every run."""
    return {run.info.run_name: run.data.metrics for run in workspace.runs()}


def test_sets_come_and_go_and_nothing_is_trained_or_evaluated_anew(author: Workspace) -> None:
    before, page = made(author), author.path("reports/comparison.html").read_text()
    assert len(author.path("reports/external.csv").read_text().splitlines()) == 1
    tree = small()
    tree["comparison"]["external"] = {"camera": generated(7, 1.5)}
    author.change(tree)
    said = author.run(sys.executable, "-m", "segbench", "plan")
    assert re.search(r"download_external camera +1 ", said)
    assert re.search(r"evaluate_external mobilenetv2_035 camera +1 ", said)
    assert not re.search(r"^(train|evaluate|download|split|augment) ", said, re.MULTILINE)
    of_camera = [
        *(f"{stage}@camera" for stage in PER_SET),
        f"evaluate_external@{RUN}-camera",
    ]
    assert sorted(author.repro()) == sorted([*of_camera, "compare"])
    assert made(author) == before
    assert author.repro() == []
    points = mlflow_of(author)
    (path,) = author.path("reports/metrics/external/camera").iterdir()
    scores = json.loads(path.read_text())
    for metric in ("dice_per_image", "dice_per_image_chosen", "recall_per_image", "dice_micro"):
        key = f"external/camera/{metric}"
        assert points[path.stem][key] == pytest.approx(scores[key])
    author.run(sys.executable, "-m", "segbench", "sync")
    assert mlflow_of(author) == points

    tree["comparison"]["external"]["clinic"] = generated(8, 2.0)
    author.change(tree)
    again = [name.replace("camera", "clinic") for name in of_camera]
    assert sorted(author.repro()) == sorted([*again, "compare"])
    assert made(author) == before
    table = pd.read_csv(author.path("reports/external.csv"))
    assert table["external"].tolist() == ["camera", "clinic"]
    text = author.path("reports/comparison.md").read_text()
    assert "### camera\n" in text
    assert "### clinic\n" in text

    tree["comparison"]["external"]["clinic"]["seed"] = 9
    author.change(tree)
    assert sorted(author.repro()) == sorted([*again, "compare"])

    del tree["comparison"]["external"]["camera"]
    author.change(tree)
    assert author.repro() == ["compare"]
    assert "camera" not in author.path("reports/comparison.md").read_text()
    assert not author.path("reports/metrics/external/camera").exists()
    assert not author.path("reports/metrics/external/camera.json").exists()
    assert author.repro() == []

    tree["comparison"]["external"] = {}
    author.change(tree)
    assert author.repro() in (["compare"], [])  # DVC may know the run without any
    assert author.path("reports/comparison.html").read_text() == page
    assert made(author) == before


@pytest.mark.parametrize("mistake", ["leak", "classes"])
def test_what_is_wrong_with_a_set_is_said_before_anything_is_trained(
    mistake: str, author: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(tmp_path / "clone", ROOT)
    shutil.copytree(author.path(".dvc/cache"), copy.path(".dvc/cache"))
    tree = small()
    tree["train"]["num_epochs"] = 3  # trained by nobody
    sets = {
        "leak": tree["dataset"],
        "classes": own(make_source(tmp_path / "source", "ab")).model_dump(),
    }
    tree["comparison"]["external"] = {"camera": sets[mistake]}
    copy.change(tree)
    said = copy.run(sys.executable, "-m", "segbench", "repro", fails=True)
    expected = {
        "leak": r"comparison.external.camera: 3\d of its images show what a training image shows "
        r"\(3\d equal to one\): .* split.on_leak: warn",
        "classes": "comparison.external.camera: its classes are background, crack, networks are "
        "trained on background, polyp;",
    }
    assert re.search(expected[mistake], said)
    assert "Traceback" not in said
    assert "train@" not in said
    assert ("Running stage" in said) == (mistake == "leak")
