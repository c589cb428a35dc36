"""Programs that write runs side by side, and whether a tracking server has all of each, once."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from segbench.tracking.records import DatasetInput, Run, write_run
from support.params import ROOT

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


def start_writer(folder: Path, at: int, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start one of them in a folder; what it says can be read from its stdout."""
    (folder / f"run{at}").mkdir()
    write_run(folder / f"run{at}", run_of(at))
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(at), str(STEPS)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_run(at: int, found: object) -> None:
    """Assert that MLflow has all of a writer's run, once.

    Args:
        at: number of the writer.
        found: its run, of `everything`.
    """
    status, points, params, tags, files, digests, _ = found  # type: ignore[misc]
    run = run_of(at)
    assert status == "FINISHED"
    assert params == run.params
    assert {key: tags[key] for key in ("dvc.stage", "best_epoch")} == {
        **run.tags,
        "best_epoch": str(at),
    }
    assert digests == [f"{at:016x}"]
    expected = [(step, step + at / 10) for step in range(STEPS)]
    assert {key: [(step, value) for step, value, _ in line] for key, line in points.items()} == {
        f"metric{key}": expected for key in range(6)
    }
    assert len({Path(name).name for name in files}) == len(files) == 4 * 3
