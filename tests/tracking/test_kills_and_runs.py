"""Killed in each stage and gone on with: one run for each training, one for each comparison that
says something else, and none that stays open.

KILLS=25 python -m pytest -n 0 -s -m exhaustive tests/tracking/test_kills_and_runs.py kills more
often; it takes half an hour on two cores, and KILLS_SEED gives other moments.
"""

import os
import random
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from support.kills import REPRO, clone, family, kill_all
from support.params import read_params, shrink
from support.workspace import Workspace

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]
STAGES = {
    "download": 3.0,
    "split": 4.0,
    "augment": 5.0,
    "train": 6.0,
    "evaluate": 10.0,
    "compare": 8.0,
    "measure": 8.0,
}
"""In the order in which they are killed, and seconds within which."""
SEED = int(os.environ.get("KILLS_SEED", "0"))


def run_and_kill(workspace: Workspace, stage: str, after_s: float, *options: str) -> bool:
    """Kill the pipeline so long after a stage has begun; whether that still ran."""
    started = psutil.Popen(
        [*REPRO, *options],
        cwd=workspace.folder,
        env=workspace.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = None
    while started.poll() is None and (until is None or time.monotonic() < until):
        if until is None and runs(stage, started):
            until = time.monotonic() + after_s
        time.sleep(0.05)
    hit = started.poll() is None and runs(stage, started)
    kill_all(started, family(started))
    started.wait()
    return hit


def runs(stage: str, pipeline: psutil.Process) -> bool:
    for process in family(pipeline):
        with suppress(psutil.Error):
            if f"stages/{stage}.py" in process.cmdline():
                return True
    return False


def check_runs(workspace: Workspace, trainings: int, comparisons: int) -> None:
    runs = workspace.runs()
    assert Counter(run.info.status for run in runs) == {"FINISHED": trainings + comparisons}
    compared = [run for run in runs if "segbench.compares" in run.data.tags]
    assert len(compared) == comparisons
    assert len({run.data.tags["segbench.run"] for run in runs}) == len(runs)
    left = [run for run in compared if "segbench.superseded_by" not in run.data.tags]
    assert len(left) == 1


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(2, marks=pytest.mark.slow),
        pytest.param(
            int(os.environ.get("KILLS", "25")),
            marks=[
                pytest.mark.exhaustive,
                pytest.mark.skipif("KILLS" not in os.environ, reason="half an hour; set KILLS=25"),
            ],
        ),
    ],
)
def test_killed_in_each_stage_and_gone_on_with(kills: int, tmp_path: Path) -> None:
    workspace = clone(tmp_path / "clone")
    choice = random.Random(SEED)
    chosen = ["train", "compare"] if kills < len(STAGES) else [*STAGES]
    left = Counter(chosen[at % len(chosen)] for at in range(kills))
    for stage in STAGES:
        options: tuple[str, ...] = ()
        for _ in range(10 * left[stage]):
            after_s = choice.uniform(0, STAGES[stage])
            left[stage] -= run_and_kill(workspace, stage, after_s, *options)
            if not left[stage]:
                break
            if stage != "train":  # which is begun anew; others may be in the run cache by now
                options = ("--force", "--single-item", stage)
    assert left.total() == 0, left
    print(f"killed {kills} times in {', '.join(chosen)}")
    workspace.run(*REPRO)
    check_runs(workspace, 2, 1)
    tree = shrink(read_params())
    tree["checkpoints"].update(steps=1)
    tree["comparison"]["smallest_that_matters"] = 0.02
    workspace.change(tree)
    workspace.run(*REPRO)
    check_runs(workspace, 2, 2)
    workspace.run(*REPRO, "--force", "--single-item", "compare")
    check_runs(workspace, 2, 2)
