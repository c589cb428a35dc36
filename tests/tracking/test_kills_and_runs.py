"""Killed at random and gone on with: one run for each training, one for each comparison that says
something else, and none that stays open.

KILLS=25 python -m pytest -n 0 -s -m exhaustive tests/tracking/test_kills_and_runs.py kills more
often; it takes half an hour on two cores, and KILLS_SEED gives other moments.
"""

import os
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from support.kills import REPRO, clone, family, kill_all
from support.params import read_params, shrink
from support.workspace import Workspace

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]
SEED = int(os.environ.get("KILLS_SEED", "0"))


def run_and_kill(workspace: Workspace, after_s: float) -> bool:
    """Run the pipeline, and kill all of it after a while; whether it still ran."""
    started = psutil.Popen(
        REPRO,
        cwd=workspace.folder,
        env=workspace.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + after_s
    while time.monotonic() < until and started.poll() is None:
        time.sleep(0.05)
    hit = started.poll() is None
    if hit:
        kill_all(started, family(started))
    started.wait()
    return hit


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
def test_killed_at_random_and_gone_on_with(kills: int, tmp_path: Path) -> None:
    workspace = clone(tmp_path / "clone")
    choice = random.Random(SEED)
    hits = 0
    for _ in range(4 * kills):
        hits += run_and_kill(workspace, choice.uniform(3, 40))
        if hits == kills:
            break
        if choice.random() < 0.2:  # something to kill is left
            workspace.run(*REPRO, "--force", "--single-item", "compare")
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
