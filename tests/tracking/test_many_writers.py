"""Eight trainings side by side write into one MLflow: all of each arrives, once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segbench.tracking.records import DatasetInput, Run, write_run
from support.mlflow_server import everything, server
from support.params import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]

WRITERS, STEPS, PARAMS = 8, 100, 150
PROGRAM = """
import sys, time
from pathlib import Path
from PIL import Image
from segbench.tracking.records import read_run, recorded
at, steps = int(sys.argv[1]), int(sys.argv[2])
with recorded(Path(f"record{at}"), read_run(Path(f"run{at}")), 120) as record:
    for step in range(steps):
        record.log(step, {f"metric{key}": step + at / 10 for key in range(6)})
        time.sleep(0.1)
    for number in range(4):
        Image.new("RGB", (64, 64), (at, number, 0)).save(record.artifact(f"images/p~s{number}.png"))
        record.artifact(f"files/table{number}.csv").write_text(f"{at},{number}")
    record.tags["best_epoch"] = str(at)
"""


def run_of(at: int) -> Run:
    """What each writer says of its run at the start."""
    return Run(
        *(f"{at:032x}", "train", "polyps", f"writer{at}", 1_700_000_000_000 + at),
        params={f"p{number}": f"{at}-{number}" for number in range(PARAMS)},
        tags={"dvc.stage": f"train@{at}"},
        inputs=[DatasetInput("polyps", f"{at:016x}", "data/arrays/fold0", {"images": 3})],
    )


@contextmanager
def database(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'mlflow.db'}"


@pytest.mark.parametrize("place", [database, server])
def test_all_of_eight_arrives_once(place: type, tmp_path: Path) -> None:
    with place(tmp_path / "mlflow") as uri:
        (tmp_path / "mlflow").mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "PYTHONPATH": str(ROOT / "src"),
        }
        for at in range(WRITERS):
            (tmp_path / f"run{at}").mkdir()
            write_run(tmp_path / f"run{at}", run_of(at))
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(at), str(STEPS)],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for at in range(WRITERS)
        ]
        said = [writer.communicate(timeout=400)[0] for writer in writers]
        assert said == [""] * WRITERS
        found = everything(uri)
    assert sorted(found) == [f"writer{at}" for at in range(WRITERS)]
    for at in range(WRITERS):
        status, points, params, tags, files, digests, _ = found[f"writer{at}"]  # type: ignore[misc]
        run = run_of(at)
        assert status == "FINISHED"
        assert params == run.params
        assert {key: tags[key] for key in ("dvc.stage", "best_epoch")} == {
            **run.tags,
            "best_epoch": str(at),
        }
        assert digests == [f"{at:016x}"]
        expected = [(step, step + at / 10) for step in range(STEPS)]
        assert {
            key: [(step, value) for step, value, _ in line] for key, line in points.items()
        } == {f"metric{key}": expected for key in range(6)}
        assert len({Path(name).name for name in files}) == len(files) == 4 * 3
