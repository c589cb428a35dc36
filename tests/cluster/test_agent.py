"""A worker's clones of the workspace, whatever was killed in them."""

import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from segbench.cluster.agent import Agent
from segbench.cluster.revision import pack_workspace
from segbench.jobs.pipeline import Pipeline
from support.params import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")

JOB = {
    **{"cache": "", "config": "", "lock": "schema: '2.0'\nstages: {}\n", "stage": "one"},
    **{"files": {}, "links": {}, "remote": None, "lent": {}, "environment": {}},
}
# The process of a stage, in place of segbench's: it outlives its worker for a while.
STAGE = """\
import pathlib, time
pathlib.Path("began").touch()
time.sleep(60)
"""
WORKER = """\
import sys
from types import SimpleNamespace
from segbench.cluster import agent
worker = SimpleNamespace(name="w", get_current_task=lambda: "k", log_event=lambda *_: None)
worker.state = SimpleNamespace(tasks={"k": SimpleNamespace(state="executing")})
agent.get_worker = lambda: worker
folder, job = eval(sys.argv[1])
one = agent.Agent({"commit": ""}, {}, folder, 3, 0)
with one._clone() as (clone, lock):
    one._run_in(clone, lock, {}, job)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of one stage."""
    root = tmp_path / "home"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "toy")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "toy@localhost")
    (root / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo 1 > one\n    outs: [one]\n")
    for command in ("git init -q", "dvc init -q", "git add --all", "git commit -qm toy"):
        subprocess.run(command.split(), check=True)
    return root


def agent_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """One that brings a clone up to date, and runs nothing in it."""
    agent = Agent(vars(pack_workspace(home)), {}, str(home.parent / "worker"), 3, 0)
    agent._slots = queue.SimpleQueue()
    agent._slots.put({})

    def run(clone: Path, *_: Any) -> dict[str, str]:
        return {"entry": str(clone)}

    monkeypatch.setattr(agent, "_run_in", run)
    return agent


@pytest.mark.parametrize(
    ("left", "text", "is_whole"),
    [
        (".git/index.lock", "", True),
        (".dvc/tmp/rwlock", '{"wri', True),
        (".git/index.lock", "", False),
        (".git/HEAD.lock", "", False),
        (".git/shallow.lock", "", False),
        (".git/index", "torn", False),
    ],
)
def test_what_a_kill_leaves_in_a_clone_stops_no_later_stage(
    left: str, text: str, is_whole: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clone that was whole, or in one that was being made then."""
    clone = Path(agent_of(home, monkeypatch).run(JOB)["entry"])
    if not is_whole:
        (clone / ".git/segbench").unlink()
    (clone / left).parent.mkdir(parents=True, exist_ok=True)
    (clone / left).write_text(text)
    (home / "more.txt").write_text("a later revision")
    assert Path(agent_of(home, monkeypatch).run(JOB)["entry"]) == clone
    assert (clone / "more.txt").read_text() == "a later revision"
    monkeypatch.chdir(clone)
    with Pipeline(clone, ["one"], only=True) as pipeline:
        assert pipeline.begin("one")
        pipeline.give_up("one")


def test_a_clone_is_busy_while_a_stage_of_a_dead_worker_still_ends_in_it(tmp_path: Path) -> None:
    module = tmp_path / "worker/clone-0/src/segbench/cluster/stage.py"
    module.parent.mkdir(parents=True)
    module.write_text(STAGE)
    for folder in (module.parent, module.parents[1]):
        (folder / "__init__.py").touch()
    (tmp_path / "worker/clone-0/.git").mkdir()
    given = repr((str(tmp_path / "worker"), JOB))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    worker = subprocess.Popen([sys.executable, "-c", WORKER, given], env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "worker/clone-0/began").exists():
        assert time.monotonic() < deadline
        assert worker.poll() is None
        time.sleep(0.05)
    found = subprocess.run(
        ["pgrep", "-P", str(worker.pid)], capture_output=True, text=True, check=True
    )
    stage = int(found.stdout)
    worker.kill()
    worker.wait()
    other = Agent({}, {}, str(tmp_path / "worker"), 3, 0)
    with other._clone() as (clone, _):
        assert clone.name == "clone-1"
    os.kill(stage, signal.SIGKILL)
    while True:
        with other._clone() as (clone, _):
            if clone.name == "clone-0":
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)
