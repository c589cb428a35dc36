"""A project that is moved or copied takes its MLflow along; a deleted experiment comes back."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from segbench.tracking.client import connect
from segbench.tracking.records import ModelFile
from segbench.tracking.replay import replay
from support.mlflow_server import everything, write_record

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


def uri_of(project: Path) -> str:
    return f"sqlite:///{project / 'mlflow.db'}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a run and its model, in a folder whose name needs quoting."""
    folder = tmp_path / "my project"
    program = folder / "model.pt2"
    folder.mkdir()
    program.write_bytes(b"program")
    write_record(folder / "first", model=ModelFile("../model.pt2", 3, 1))
    replay([folder / "first"], uri_of(folder))
    return folder


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines of segbench's own."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith(("mended: ", "warning: "))]


def places(project: Path) -> list[str]:
    with closing(sqlite3.connect(project / "mlflow.db")) as database:
        return [
            place
            for query in (
                "SELECT artifact_location FROM experiments WHERE experiment_id != 0",
                "SELECT artifact_uri FROM runs",
                "SELECT artifact_location FROM logged_models",
            )
            for (place,) in database.execute(query)
        ]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.mark.parametrize("by", [shutil.move, shutil.copytree])
def test_artifacts_go_where_the_project_is(
    by: Any, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(uri_of(project))
    kept = files(project)
    here = tmp_path / "elsewhere/project"
    here.parent.mkdir()
    by(project, here)
    capsys.readouterr()
    write_record(here / "second", id="b" * 32, name="second")
    replay([here / "second"], uri_of(here))
    (said,) = told(capsys)
    assert said == (
        f"mended: {here / 'mlflow.db'} came from {project}; artifacts of its 1 runs are looked for "
        f"in {here / 'mlruns'}, and new ones go there"
    )
    if by is shutil.move:
        assert not project.exists()
    else:
        assert files(project) == kept
    assert all(place.startswith((here / "mlruns").as_uri()) for place in places(here))
    found = everything(uri_of(here))
    assert found["resnet18-fold0-seed0"] == before["resnet18-fold0-seed0"]
    client = connect(uri_of(here))
    experiment = client.get_experiment_by_name("polyps")
    for run in client.search_runs([experiment.experiment_id]):
        got = client.download_artifacts(run.info.run_id, "pictures/best.png", str(tmp_path))
        with Image.open(got) as picture:
            assert picture.size == (8, 8)
    (model,) = client.search_logged_models([experiment.experiment_id])
    root = Path(model.artifact_location.removeprefix(here.as_uri()).lstrip("/"))
    assert (here / root / "data/model.pt2").read_bytes() == b"program"
    assert told(capsys) == []


def test_what_stayed_behind_is_still_found(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of the database alone: its runs have their artifacts there, new ones here."""
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(project / "mlflow.db", here)
    kept = files(project)
    write_record(here / "second", id="b" * 32, name="second")
    replay([here / "second"], uri_of(here))
    assert files(project) == kept
    found = everything(uri_of(here))
    assert "pictures/best.png" in found["resnet18-fold0-seed0"][4]  # type: ignore[index]
    assert "artifacts of its 0 runs" in capsys.readouterr().err
    assert list((here / "mlruns").iterdir())


def test_places_of_other_tools_stay(project: Path, tmp_path: Path) -> None:
    client = MlflowClient(uri_of(project))
    place = (tmp_path / "server/mlruns/7").as_uri()
    client.create_experiment("theirs", place)
    here = shutil.move(project, tmp_path / "here")
    client = connect(uri_of(here))
    assert client.get_experiment_by_name("theirs").artifact_location == place


def test_a_deleted_experiment_is_restored(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow takes no run for it, and no other experiment of its name."""
    uri = uri_of(project)
    client = connect(uri)
    client.delete_experiment(client.get_experiment_by_name("polyps").experiment_id)
    capsys.readouterr()
    write_record(project / "second", id="b" * 32, name="second")
    replay([project / "second"], uri)
    (said,) = told(capsys)
    assert said.startswith("warning: MLflow's experiment polyps had been deleted, and is restored")
    assert set(everything(uri)) == {"resnet18-fold0-seed0", "second"}
