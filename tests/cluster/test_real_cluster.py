"""Real trainings on four workers with folders of their own, of which two are lost, and a
driver that is killed: the digits of a serial run, and nothing twice."""

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from support.cluster import Cluster
from support.kills import family, kill_all
from support.params import ROOT, read_params, shrink
from support.workspace import Workspace

pytestmark = [pytest.mark.timeout(2400), pytest.mark.filterwarnings("ignore")]
EPOCHS = 10


def until(holds: Callable[[], bool], driver: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 300
    while not holds():
        assert driver.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    "seeds",
    [pytest.param(3, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.exhaustive)],
)
def test_a_cluster_that_loses_workers_gives_the_serial_digits(seeds: int, tmp_path: Path) -> None:
    tree = shrink(read_params())
    tree["hardware"].update(device="cpu", threads=1)
    tree["train"]["num_epochs"] = EPOCHS
    tree["comparison"]["seeds"] = [*range(seeds)]
    serial, home = (Workspace(tmp_path / name, ROOT) for name in ("serial", "home"))
    serial.change(tree)
    serial.run(sys.executable, "-m", "segbench", "repro")

    store = tmp_path / "checkpoints"
    store.mkdir()
    tree["checkpoints"]["url"] = str(store)
    home.change(tree)
    home.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "remote"))
    log = tmp_path / "driver.log"

    def last(worker: int) -> str:
        """The training that a worker began last."""
        begun = re.findall(rf"^(train@\S+): starts on \S+ worker w{worker}$", said(), re.M)
        return str(begun[-1]) if begun else ""

    def said() -> str:
        return log.read_text(errors="replace")

    def has_checkpoint(name: str) -> bool:
        run = re.sub(r"train@(\w+)-(\d)-(\d)", r"\1-fold\2-seed\3", name)
        return any(path.parent.name.split(".")[0] == run for path in store.glob("*/*.pt"))

    with Cluster(tmp_path / "cluster", workers=4) as cluster, log.open("wb") as lines:
        file = cluster.settings(tmp_path / "cluster.yaml", lost_after_s=10)
        command = [sys.executable, "-m", "segbench", "repro", "--cluster", str(file)]

        def start() -> "subprocess.Popen[bytes]":
            return subprocess.Popen(
                command,
                cwd=home.folder,
                env=home.environment,
                stdout=lines,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        driver = start()
        lost = set[str]()
        for worker, number in enumerate((signal.SIGKILL, signal.SIGSTOP)):
            name = ""

            def is_under_way(at: int = worker) -> bool:
                nonlocal name
                name = last(at)
                return has_checkpoint(name)

            until(is_under_way, driver)
            lost.add(name)
            cluster.send(worker, number)
        until(lambda: len(re.findall(r"^train@\S+: done", said(), re.M)) >= seeds, driver)
        first = psutil.Process(driver.pid)
        kill_all(first, family(first))
        driver.wait()
        assert start().wait() == 0, said()

    assert home.scores() == serial.scores()
    for name in lost:  # it went on elsewhere, from its last checkpoint
        assert re.search(rf"^{name}: .* {EPOCHS} epochs in .* resumed at epoch", said(), re.M)
    ended = Counter(re.findall(r"^(train@\S+): done", said(), re.M))
    aliases = tree["comparison"]["candidates"]
    keys = [f"{alias}-0-{seed}" for alias in aliases for seed in range(seeds)]
    assert {*ended} <= {f"train@{key}" for key in keys}
    assert set(ended.values()) == {1}
    runs = home.runs()
    trainings = [run.data.tags["mlflow.runName"] for run in runs if "fold" in run.info.run_name]
    assert len(trainings) == len({*trainings}) == len(keys)
    assert {run.info.status for run in runs} == {"FINISHED"}

    # A second time nothing runs; nor in a clone that has the remote and its run cache alone.
    assert home.repro() == []
    home.commit("What came out")
    home.run("dvc", "push", "--run-cache")  # what was made at home
    clone = Workspace(tmp_path / "clone", home.folder)
    clone.run("dvc", "pull", "--run-cache")
    assert clone.repro() == []


@pytest.mark.slow
def test_evaluations_on_an_external_set_run_there_too(tmp_path: Path) -> None:
    tree = shrink(read_params())
    tree["hardware"].update(device="cpu", threads=1)
    tree["comparison"]["candidates"] = ["mobilenetv2_035"]
    size = {"num_sequences": 4, "frames_per_sequence": 2, "height": 90, "width": 70}
    camera = {"name": "synthetic-polyps", "seed": 7, "contrast": 1.5, **size}
    tree["comparison"]["external"] = {"camera": camera}
    home = Workspace(tmp_path / "home", ROOT)
    home.change(tree)
    home.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "remote"))
    with Cluster(tmp_path / "cluster", workers=1) as cluster:
        file = cluster.settings(tmp_path / "cluster.yaml")
        said = home.run(sys.executable, "-m", "segbench", "repro", "--cluster", str(file))
    for stage in ("train", "evaluate", "evaluate_external"):
        assert re.search(rf"^{stage}@\S+: starts on \S+ worker w0$", said, re.M)
    assert len(home.path("reports/external.csv").read_text().splitlines()) == 2
