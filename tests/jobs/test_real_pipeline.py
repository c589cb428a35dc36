"""The committed pipeline, shrunk, with stages side by side: the same digits, and nothing twice."""

import re
import sys
from pathlib import Path

import pytest

from support.params import ROOT, read_params, shrink
from support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def started(workspace: Workspace, *options: str) -> list[str]:
    """Stages that `segbench repro` began."""
    said = workspace.run(sys.executable, "-m", "segbench", "repro", *options)
    assert "report of 2 candidates" in said
    return re.findall(r"^(?:Running stage ')?([\w@-]+)(?:: starts|':$)", said, re.MULTILINE)


def test_side_by_side_gives_the_same_digits_and_nothing_runs_twice(tmp_path: Path) -> None:
    tree = shrink(read_params())
    tree["hardware"].update(device="cpu", threads=1)
    one, two = (Workspace(tmp_path / name, ROOT) for name in ("one", "two"))
    one.change(tree)
    first = started(one, "--jobs", "1")
    two.change(tree)
    two.environment["SEGBENCH_CORES"] = "2"
    assert sorted(started(two)) == sorted(first)
    assert two.scores() == one.scores()
    assert started(two, "--jobs", "2") == []

    # Other params and back: `compare` alone runs, since it clears away the files of seed 7.
    two.change({**tree, "comparison": {**tree["comparison"], "seeds": [7]}})
    assert "train@regnetx_002-0-7" in started(two, "--jobs", "2")
    two.change(tree)
    assert started(two, "--jobs", "2") == ["compare"]
    assert two.scores() == one.scores()
    assert sum("candidate.alias" in run.data.params for run in two.runs()) == 4

    # By DVC alone, as in a clone that has the run cache and no lock file.
    one.path("dvc.lock").unlink()
    assert sorted(one.repro()) == ["measure", "split"]  # what they write persists
