"""Eight trainings side by side write into one MLflow: all of each arrives, once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.mlflow_server import everything, server
from support.writers import WRITERS, check_run, start_writer

pytestmark = [pytest.mark.slow, pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


@contextmanager
def database(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'mlflow.db'}"


@pytest.mark.parametrize("place", [database, server])
def test_all_of_eight_arrives_once(place: type, tmp_path: Path) -> None:
    with place(tmp_path / "mlflow") as uri:
        (tmp_path / "mlflow").mkdir(exist_ok=True)
        environment = {"MLFLOW_TRACKING_URI": uri}
        writers = [start_writer(tmp_path, at, environment) for at in range(WRITERS)]
        said = [writer.communicate(timeout=400)[0] for writer in writers]
        assert said == [""] * WRITERS
        found = everything(uri)
    assert sorted(found) == [f"writer{at}" for at in range(WRITERS)]
    for at in range(WRITERS):
        check_run(at, found[f"writer{at}"])
