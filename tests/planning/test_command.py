"""`segbench plan` in a clone in which nothing has run."""

import re
import sys

import pytest

from support.params import ROOT, read_params, shrink
from support.workspace import Workspace

SEGBENCH = (sys.executable, "-m", "segbench")
PATH = "download, split, augment, train@{run}, evaluate@{run}, compare"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("plan") / "clone", ROOT)
    tree = shrink(read_params())
    tree["hardware"]["device"] = "cpu"
    workspace.change(tree)
    workspace.environment["SEGBENCH_CORES"] = "2"
    return workspace


def parts(said: str) -> tuple[str, str]:
    """The table, and what is said after it."""
    table, plan, rest = said.partition("plan: ")
    assert re.search(r"^total +9 +\d+ min \d\d s +\d+ MiB$", table, re.MULTILINE)
    return table, plan + rest


def test_what_machines_would_bring(clone: Workspace) -> None:
    _, said = parts(clone.run(*SEGBENCH, "plan", "--workers", "3"))
    lines = said.splitlines()
    assert re.match(
        r"--workers 3: machines like this one, .*: about \d+ min \d\d s, 1\.\d ", lines[1]
    )
    run = re.search(r"train@([\w-]+)", lines[2])
    assert run
    assert lines[2].endswith(PATH.format(run=run[1]))
    assert re.match(r"  stages: about 0\.\d\d core hours; the workers are held for 0\.", lines[3])
    # 36 images of 72 x 80 and, in arrays, of 64 x 64 pixels.
    assert re.match(r"  workers pull about \d+ MiB \(arrays 1 MiB, dataset \d MiB\); a", lines[4])
    assert re.match(r"  pushed: about \d+ MiB \(dataset 1 MiB, arrays 1 MiB, weights ", lines[5])
    assert re.match(r"  disk: about \d+ MiB on a worker, \d+ MiB in the remote", lines[6])


@pytest.mark.slow
def test_what_jobs_would_bring(clone: Workspace) -> None:
    table, said = parts(clone.run(*SEGBENCH, "plan"))  # as 'segbench repro' does by itself
    lines = said.splitlines()
    assert re.match(r"--jobs auto: 2 at a time, each with 1 core: about \d+ min \d\d s", lines[1])
    assert "critical path" in lines[2]
    assert re.match(r"  stages: about 0\.\d\d core hours, one after another 0\.\d\d", lines[3])
    without, rest = parts(clone.run(*SEGBENCH, "plan", "--jobs", "1"))
    assert [row.split()[0] for row in without.splitlines()] == [
        row.split()[0] for row in table.splitlines()
    ]
    assert "--jobs 1: 1 at a time" in rest
