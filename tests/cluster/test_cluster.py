"""Stages run on the workers of a real Dask cluster, from clones of their own."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from segbench.cluster.settings import ClusterSettings, load_cluster
from segbench.cluster.workers import Workers
from segbench.errors import InputError
from segbench.jobs.exchange import Exchange
from segbench.jobs.machine import Machine
from segbench.jobs.memory import Memory
from segbench.jobs.pipeline import Pipeline
from segbench.jobs.schedule import Outcome, Schedule
from segbench.jobs.slots import Slot
from segbench.jobs.view import View
from segbench.params import load_params
from support.cluster import Cluster
from support.params import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")

# Notes where and how often it ran; needs what another stage made, one file of DVC's, one of git's.
WORK = """\
import os, pathlib, sys, time, yaml
item, log = sys.argv[1:]
with open(log, "a") as file:
    print(item, pathlib.Path.cwd(), os.getpid(), file=file)
time.sleep(yaml.safe_load(open("toy.yaml"))["seconds"])
if item == "bad":
    sys.exit("error: a bad item; take another")
made = open("data/first").read() + open("note.txt").read() + open("code.txt").read()
open(f"data/out-{item}", "w").write(item + made)
open(f"record-{item}.json", "w").write(item)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a remote: a stage here, one for each item on workers, and a last one."""
    root = tmp_path / "home"
    (root / "data").mkdir(parents=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "toy")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "toy@localhost")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    subprocess.run(["dvc", "remote", "add", "-q", "-d", "store", "../remote"], check=True)
    (root / "work.py").write_text(WORK)
    (root / "code.txt").write_text(" committed")
    (root / "data/.gitignore").write_text("/*\n!.gitignore\n")
    (root / "src").symlink_to(ROOT / "src")
    log = tmp_path / "log"
    log.touch()
    stages = {
        "first": {
            "cmd": "echo one > data/first; echo two > note.txt",
            "params": [{"toy.yaml": ["seconds"]}],
            "outs": ["data/first", {"note.txt": {"cache": False, "persist": True}}],
        },
        "work": {
            "matrix": {"item": "${items}"},
            "cmd": f"python work.py ${{item.item}} {log}",
            "meta": {"runs": "beside"},
            "params": [{"toy.yaml": ["seconds"]}],
            "deps": ["work.py", "code.txt", "data/first", "note.txt"],
            "outs": ["data/out-${item.item}", {"record-${item.item}.json": {"cache": False}}],
        },
        "last": {
            "cmd": "cat data/out-* record-* > last",
            "deps": ["data/out-a", "data/out-b", "data/out-c"],
            "outs": [{"last": {"cache": False}}],
        },
    }
    items(root, "abc")
    (root / "dvc.yaml").write_text(
        yaml.safe_dump({"vars": ["toy.yaml"], "stages": stages}, sort_keys=False)
    )
    subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run(["git", "commit", "-qm", "A toy"], check=True)
    (root / "code.txt").write_text(" changed")  # goes to the workers though it is not committed
    return root


def items(root: Path, names: str | list[str], seconds: float = 0.2) -> None:
    (root / "toy.yaml").write_text(yaml.safe_dump({"items": [*names], "seconds": seconds}))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


def run(cluster: Cluster, **settings: object) -> tuple[Outcome, str]:
    """What became of the stages, and what was said."""
    tree = {"scheduler": cluster.address, "folder": "$WORKER_FOLDER", "lost_after_s": 10}
    chosen = ClusterSettings.model_validate({**tree, **settings})
    said = io.StringIO()
    with (
        Pipeline(Path(), exchange=Exchange(remote=not chosen.shared)) as pipeline,
        View(pipeline.stages, 1, said) as view,
        Workers(Path(), pipeline, chosen, load_params(ROOT / "params.yaml"), view) as workers,
    ):
        here = Machine(pipeline, [Slot({}, "")], Memory(), beside=False)
        outcome = Schedule(pipeline, [workers, here], view).run()
    return outcome, said.getvalue()


def ran(toy: Path) -> list[tuple[str, str]]:
    """Items that were begun, and in which worker's folder."""
    lines = [line.split() for line in (toy.parent / "log").read_text().splitlines()]
    return sorted((item, Path(place).parent.name) for item, place, _ in lines)


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_workers_with_nothing_but_a_remote_run_stages(toy: Path, cluster: Cluster) -> None:
    items(toy, "abc", seconds=1)
    for log in (cluster.folder / "worker-0.log", cluster.folder / "worker-1.log"):
        until(lambda log=log: "Registered to" in log.read_text())  # type: ignore[misc]
    outcome, said = run(cluster)
    assert outcome.failed == {}, said
    assert sorted(outcome.done) == ["first", "last", "work@a", "work@b", "work@c"]
    assert [item for item, _ in ran(toy)] == ["a", "b", "c"]
    assert {place for _, place in ran(toy)} == {"worker-0", "worker-1"}
    each = "".join(f"{item}one\ntwo\n changed" for item in "abc")
    assert (toy / "last").read_text() == f"{each}abc"
    assert "up to date" in said_by("dvc", "status")
    assert "joined: worker w0" in said

    # Nothing runs again: here, or in a clone that has the remote, and no dvc.lock.
    assert run(cluster)[0].done == []
    said_by("git", "add", "--all")
    said_by("git", "rm", "-q", "--cached", "dvc.lock")
    said_by("git", "commit", "-qm", "Made")
    said_by("git", "clone", "-q", ".", "../clone")
    os.chdir("../clone")
    outcome, said = run(cluster)
    assert {"work@a", "work@b", "work@c"} <= {*outcome.kept}, said
    assert len(ran(toy)) == 3


@pytest.mark.slow
def test_one_that_fails_is_told_with_its_reason_and_not_tried_again(
    toy: Path, cluster: Cluster
) -> None:
    items(toy, ["a", "b", "c", "bad"])
    outcome, _ = run(cluster)
    assert outcome.failed == {"work@bad": "error: a bad item; take another (exit status 1)"}
    assert sorted(outcome.done) == ["first", "last", "work@a", "work@b", "work@c"]
    assert [item for item, _ in ran(toy)] == ["a", "b", "bad", "c"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stage_whose_worker_dies_or_hangs_starts_again_elsewhere(
    toy: Path, cluster: Cluster, number: signal.Signals
) -> None:
    items(toy, "abc", seconds=12)
    told = threading.Event()

    def break_one() -> None:
        until(lambda: len(ran(toy)) >= 2)
        cluster.send(0, number)
        told.set()

    thread = threading.Thread(target=break_one)
    thread.start()
    outcome, said = run(cluster)
    thread.join()
    assert told.is_set()
    assert outcome.failed == {}, said
    places = ran(toy)
    assert sum(place == "worker-0" for _, place in places) == 1  # which was not ended
    assert sorted(item for item, place in places if place == "worker-1") == ["a", "b", "c"]
    assert "lost: worker w0; what it ran starts again elsewhere" in said
    assert not stages_run(toy)  # also not the one of the worker that is lost


@pytest.mark.slow
def test_a_driver_that_is_killed_ends_its_stages_and_finds_what_was_done(
    toy: Path, cluster: Cluster, tmp_path: Path
) -> None:
    (toy / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    items(toy, "abcd", seconds=10)
    file = cluster.settings(tmp_path / "cluster.yaml", lost_after_s=6)
    command = [sys.executable, "-m", "segbench.jobs", "--cluster", str(file)]
    driver = subprocess.Popen(command, process_group=0)
    until(lambda: len(ran(toy)) >= 4)  # two are done
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    until(lambda: not stages_run(toy))
    subprocess.run(command, check=True)
    again = [item for item, _ in ran(toy)]
    assert {*again} == {*"abcd"}
    assert 4 < len(again) <= 6  # those that ran when it was killed, and no others
    assert "up to date" in said_by("dvc", "status")


def test_a_worker_with_another_library_is_refused(
    toy: Path, cluster: Cluster, tmp_path: Path
) -> None:
    fake = tmp_path / "fake/timm-0.0.1.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
    cluster.add(PYTHONPATH=str(fake.parent))
    log = cluster.folder / "worker-2.log"
    until(lambda: "Registered to" in log.read_text())
    outcome, said = run(cluster)
    assert outcome.failed == {}
    assert re.search(r"refused: worker w2 on \S+: timm 0\.0\.1 instead of [\d.]+", said)
    assert "worker-2" not in {place for _, place in ran(toy)}


@pytest.mark.slow
def test_on_a_shared_disk_no_remote_is_needed(toy: Path, cluster: Cluster) -> None:
    said_by("dvc", "remote", "remove", "store")
    outcome, said = run(cluster, shared=True)
    assert outcome.failed == {}, said
    assert len(ran(toy)) == 3
    assert not (toy.parent / "cluster/worker-0/cache").exists()
    assert "up to date" in said_by("dvc", "status")


def test_without_a_remote_nothing_starts(toy: Path, cluster: Cluster) -> None:
    said_by("dvc", "remote", "remove", "store")
    (toy / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    file = cluster.settings(toy.parent / "cluster.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "segbench.jobs", "--cluster", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("cluster.yaml if all of them see this folder")
    assert not (toy / "data/first").exists()


def test_between_machines_everything_is_encrypted(toy: Path, tmp_path: Path) -> None:
    files = certificates(tmp_path / "keys")
    options = [word for name, flag in FLAGS.items() for word in (flag, files[name])]
    with Cluster(tmp_path / "safe", 1, options, protocol="tls") as cluster:
        outcome, said = run(cluster, tls=files)
        assert outcome.failed == {}, said
        with pytest.raises(InputError, match="no cluster"):
            run(cluster, scheduler=cluster.address.replace("tls", "tcp"))
    assert len(ran(toy)) == 3


FLAGS = {"ca": "--tls-ca-file", "cert": "--tls-cert", "key": "--tls-key"}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({}, "set either scheduler, or start with a class of Dask"),
        ({"scheduler": "tcp://head:8786"}, "more than one machine and no tls"),
        ({"start": "dask_jobqueue.SLURMCluster"}, "more than one machine and no tls"),
        ({"start": "distributed.LocalCluster", "options": {"host": "0.0.0.0"}}, "no tls"),
        ({"scheduler": "tls://me:word@head:8786", "trusted_network": True}, "no name and password"),
        ({"start": "SLURMCluster", "trusted_network": True}, "is no module.Class"),
        ({"scheduler": "tcp://127.0.0.1:1", "lost_after": 5}, "lost_after: Extra inputs"),
    ],
)
def test_what_cluster_yaml_says_is_checked(tmp_path: Path, tree: object, said: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=re.escape(said)):
        load_cluster(file)


@pytest.mark.slow
def test_a_cluster_of_one_machine_starts_by_itself(toy: Path, tmp_path: Path) -> None:
    (toy / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    file = tmp_path / "cluster.yaml"
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    tree = {
        "start": "distributed.LocalCluster",
        "options": options,
        "folder": str(tmp_path / "workers"),
    }
    file.write_text(yaml.safe_dump(tree))
    subprocess.run([sys.executable, "-m", "segbench.jobs", "--cluster", str(file)], check=True)
    assert [item for item, _ in ran(toy)] == ["a", "b", "c"]


def certificates(folder: Path) -> dict[str, str]:
    """Files as the commands of docs/cluster.md make them."""
    text = (ROOT / "docs/cluster.md").read_text()
    (commands,) = re.findall(r"```sh\n(openssl.*?)```", text, re.DOTALL)
    folder.mkdir()
    subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, capture_output=True)
    return {name: str(folder / f"{name}.pem") for name in FLAGS}


def said_by(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def stages_run(toy: Path) -> bool:
    """Whether a stage of a toy runs in any clone of it."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "work.py" in process.cmdline() and Path(process.cwd()).is_relative_to(toy.parent):
                return True  # a zombie has neither
    return False
