"""Stages run side by side in a real DVC repository."""

import hashlib
import io
import json
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
from typing import Any, TextIO

import psutil
import pytest
import yaml

from segbench.errors import InputError
from segbench.jobs import pipeline as pipeline_module
from segbench.jobs.machine import Machine
from segbench.jobs.memory import Memory
from segbench.jobs.pipeline import Pipeline, Stage
from segbench.jobs.process import Process
from segbench.jobs.schedule import Outcome, Schedule
from segbench.jobs.slots import Slot, default_jobs, slots_of
from segbench.jobs.view import View
from segbench.params import Params
from segbench.recovery.process_locks import alone
from segbench.recovery.run_cache import keep_runs
from support.params import ROOT, read_params, write_params

pytestmark = pytest.mark.filterwarnings("ignore")

# Notes when it began and ended, and in which slot; writes an output of DVC's and one of git's.
WORK = """\
import os, sys, time, yaml
name, seconds = sys.argv[1], float(sys.argv[2])
value = yaml.safe_load(open("toy.yaml"))["values"].get(name, "1")
with open("began", "a") as log:
    print(name, time.time(), os.environ.get("SLOT", ""), file=log)
until = time.monotonic() + seconds
while time.monotonic() < until and not os.path.exists(f"enough-{name}"):
    time.sleep(0.02)
if value == "bad":
    sys.exit("error: a bad value; take another")
open(f"out-{name}", "w").write(value)
open(f"record-{name}.json", "w").write(value)
with open("ended", "a") as log:
    print(name, time.time(), file=log)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository: four stages beside each other, one alone, one that needs all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    (tmp_path / "work.py").write_text(WORK)
    values(tmp_path, seconds=0.5)
    outs = ["out-work${item.item}", {"record-work${item.item}.json": {"cache": False}}]
    stages = {
        "work": {
            "matrix": {"item": "${items}"},
            "cmd": "python work.py work${item.item} ${seconds}",
            "meta": {"runs": "beside"},
            "params": [{"toy.yaml": ["seconds", "values.work${item.item}"]}],
            "deps": ["work.py"],
            "outs": outs,
        },
        "timed": {
            "cmd": "python work.py timed 0.2",
            "meta": {"runs": "alone"},
            "params": [{"toy.yaml": ["seconds"]}],
            "deps": ["work.py"],
            "outs": ["out-timed", {"record-timed.json": {"cache": False}}],
        },
        "last": {
            "cmd": "cat out-work0 out-work1 out-work2 out-work3 out-timed > last",
            "deps": [*(f"out-work{at}" for at in range(4)), "out-timed"],
            "outs": [{"last": {"cache": False}}],
        },
    }
    (tmp_path / "dvc.yaml").write_text(
        yaml.safe_dump({"vars": ["toy.yaml"], "stages": stages}, sort_keys=False)
    )
    return tmp_path


def values(folder: Path, seconds: float, own: dict[int, str] | None = None) -> None:
    tree = {
        "items": [0, 1, 2, 3],
        "seconds": seconds,
        "values": {f"work{at}": (own or {}).get(at, f"value{at}") for at in range(4)},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(tree))


def run(
    slots: int = 2,
    work_takes: int = 0,
    stream: TextIO | None = None,
    machine: type[Machine] = Machine,
) -> tuple[Outcome, str]:
    """What became of the stages, and what was said; `work_takes` bytes are known to be needed."""
    said = io.StringIO()
    with Pipeline(Path()) as pipeline, View(pipeline.stages, slots, stream or said) as view:
        own = [Slot({"SLOT": f"slot{at}"}, "a core") for at in range(slots)]
        memory = Memory()
        memory.most["work"] = work_takes
        outcome = Schedule(pipeline, [machine(pipeline, own, memory)], view).run()
    return outcome, said.getvalue()


def times(folder: Path) -> dict[str, tuple[float, float, str]]:
    """When each stage began and ended last, and its slot."""
    began = dict(line.split(" ", 1) for line in (folder / "began").read_text().splitlines())
    ended = dict(line.split() for line in (folder / "ended").read_text().splitlines())
    return {
        name: (float((parts := text.split(" "))[0]), float(ended[name]), parts[1])
        for name, text in began.items()
    }


def began(folder: Path) -> list[str]:
    path = folder / "began"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def dvc(*arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_as_many_run_at_a_time_as_there_are_slots(toy: Path) -> None:
    values(toy, seconds=2)
    outcome, said = run()
    assert sorted(outcome.done) == ["last", "timed", *(f"work@{at}" for at in range(4))]
    assert (outcome.kept, outcome.failed, outcome.left_out) == ([], {}, [])
    spans = times(toy)
    assert most_at_a_time(spans) == 2
    assert {spans[f"work{at}"][2] for at in range(4)} == {"slot0", "slot1"}
    assert (toy / "last").read_text() == "value0value1value2value31"
    assert "up to date" in dvc("status")
    assert re.search(r"work@3: done in 0 min \d\d s", said)
    assert "(6 of 6 stages)" in said


def test_what_takes_times_runs_alone(toy: Path) -> None:
    values(toy, seconds=2)
    run(slots=3)
    spans = times(toy)
    start, end, slot = spans.pop("timed")
    assert not slot  # it has the whole machine, and at that time
    assert most_at_a_time(spans) == 3
    assert all(other[1] <= start or end <= other[0] for other in spans.values())


def most_at_a_time(spans: dict[str, tuple[float, float, str]]) -> int:
    return max(
        sum(start <= other[0] < end for other in spans.values()) for start, end, _ in spans.values()
    )


def test_a_job_that_memory_does_not_hold_waits_for_the_others(toy: Path) -> None:
    outcome, _ = run(work_takes=1 << 50)
    assert len(outcome.done) == 6
    assert most_at_a_time(times(toy)) == 1


def test_nothing_runs_a_second_time(toy: Path) -> None:
    run()
    ran = began(toy)
    outcome, _ = run()
    assert len(outcome.kept) == 6
    assert not outcome.done
    assert began(toy) == ran


def test_what_was_run_before_comes_from_the_run_cache(toy: Path) -> None:
    """With the outputs that git holds, which DVC alone would run again for."""
    run()
    values(toy, seconds=0.1, own={0: "other"})
    assert len(run()[0].done) == 6
    ran = began(toy)
    values(toy, seconds=0.5)
    outcome, _ = run()
    assert not outcome.done
    assert began(toy) == ran
    assert (toy / "record-work0.json").read_text() == "value0"
    assert (toy / "last").read_text() == "value0value1value2value31"
    assert "up to date" in dvc("status")
    # The same by DVC alone, without its lock.
    (toy / "dvc.lock").unlink()
    dvc("repro")
    assert began(toy) == ran


def test_what_dvc_ran_by_itself_comes_from_the_run_cache_too(toy: Path) -> None:
    keep_runs(toy)  # before anything ran
    dvc("repro")
    ran = began(toy)
    keep_runs(toy)
    values(toy, seconds=0.1, own={0: "other"})
    dvc("repro")
    assert len(began(toy)) > len(ran)
    # What is not as the lock file says is not kept.
    (toy / "record-work1.json").write_text("changed by hand")
    keep_runs(toy)
    ran = began(toy)
    values(toy, seconds=0.5)
    (toy / "dvc.lock").unlink()
    dvc("repro")
    assert began(toy) == ran
    assert (toy / "last").read_text() == "value0value1value2value31"
    values(toy, seconds=0.1, own={0: "other"})
    (toy / "dvc.lock").unlink()
    dvc("repro")
    assert began(toy) == [*ran, "work1"]
    assert (toy / "record-work1.json").read_text() == "value1"


def test_what_was_made_for_a_stage_is_told_even_before_dvc_lock_has_it(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "WAIT", 1e6)  # dvc.lock is written once, then at the end
    monkeypatch.setattr(pipeline_module, "makers", lambda name: ["work@1", "work@2"])
    with Pipeline(toy) as pipeline:
        for name in ("work@1", "work@2"):
            assert pipeline.begin(name)
            subprocess.run(pipeline.command(name).arguments, check=True)
            assert pipeline.end({name: None}) == {}
        told = json.loads(pipeline.command("last").environment["SEGBENCH_MADE"])
        written = yaml.safe_load((toy / "dvc.lock").read_text())["stages"]
    assert [*written] == ["work@1"]
    content = (toy / "out-work2").read_bytes()
    assert told["dvc.md5.out-work2"] == hashlib.md5(content).hexdigest()


def test_one_that_fails_does_not_stop_the_others(toy: Path) -> None:
    values(toy, seconds=0.1, own={1: "bad"})
    outcome, said = run()
    assert sorted(outcome.done) == ["timed", "work@0", "work@2", "work@3"]
    assert outcome.failed == {"work@1": "error: a bad value; take another (exit status 1)"}
    assert outcome.left_out == ["last"]
    assert "work@1: failed: error: a bad value" in said
    values(toy, seconds=0.1)
    outcome, _ = run()
    assert sorted(outcome.done) == ["last", "work@1"]


def test_nothing_begins_after_a_failure_where_data_are_checked(toy: Path) -> None:
    tree = yaml.safe_load((toy / "dvc.yaml").read_text())
    tree["stages"]["check"] = {"cmd": "echo 'error: a leak' && exit 1", "deps": ["work.py"]}
    (toy / "dvc.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    outcome, said = run(slots=1)
    assert outcome.failed == {"check": "error: a leak (exit status 1)"}
    assert outcome.done == []
    assert "work@3" in outcome.left_out
    assert "check: failed: error: a leak (exit status 1)" in said


class SlowToTell(Machine):
    """Says that a stage has started when it has long ended."""

    def start(
        self, stage: Stage, hear: Callable[[str], None], ended: Callable[[], None]
    ) -> Process:
        has_ended = threading.Event()

        def tell() -> None:
            ended()
            has_ended.set()

        process = super().start(stage, hear, tell)
        assert has_ended.wait(20)
        return process


def test_what_a_stage_says_at_once_is_heard(toy: Path) -> None:
    values(toy, seconds=0, own={1: "bad"})
    outcome, said = run(machine=SlowToTell)
    assert outcome.failed == {"work@1": "error: a bad value; take another (exit status 1)"}
    assert sorted(outcome.done) == ["timed", "work@0", "work@2", "work@3"]
    assert "work@1: error: a bad value; take another" in said


def test_no_other_dvc_writes_what_is_being_made(toy: Path) -> None:
    with Pipeline(Path()) as pipeline:
        pipeline.begin("work@0")
        command = [sys.executable, "-m", "dvc", "repro", "-s", "work@0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "is busy" in done.stderr
    dvc("repro", "-s", "work@0")


@pytest.fixture
def runner(toy: Path) -> Iterator[subprocess.Popen[str]]:
    """The process of the command, in which four stages run for a minute."""
    values(toy, seconds=60)
    tree = read_params()
    tree["hardware"]["device"] = "cpu"
    write_params(tree, toy / "params.yaml")
    dvc("repro", "-s", "timed")
    command = [sys.executable, "-m", "segbench.jobs", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SEGBENCH_CORES": "2"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()


def test_nothing_of_dvc_tears_the_view_apart_on_a_terminal(toy: Path) -> None:
    command = [sys.executable, __file__]  # see below
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    ours, its = os.openpty()
    with subprocess.Popen(command, env=environment, stdout=its, stderr=its) as process:
        os.close(its)
        said = b""
        with suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 1 << 16):
                said += part
        os.close(ours)
    assert process.returncode == 0, said.decode()
    # The bars of DVC go back to the first column, which the table does only to clear a line.
    assert not re.findall(rb"\r(?!\n|\x1b\[2K|\x1b\[1A)[^\n]{,40}", said)
    assert b"6 of 6 stages" in said
    assert b"dvc.lock" not in said


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_all(
    toy: Path, runner: subprocess.Popen[str], number: signal.Signals, status: int
) -> None:
    while len(began(toy)) < 3:
        assert runner.poll() is None, runner.communicate()[1]
        time.sleep(0.05)
    jobs = psutil.Process(runner.pid).children(recursive=True)
    assert len(jobs) >= 2
    runner.send_signal(number)
    _, said = runner.communicate(timeout=30)
    assert runner.returncode == status
    assert "2 jobs at a time, each with 1 core" in said
    assert not psutil.wait_procs(jobs, timeout=5)[1]
    assert len(began(toy)) == 3


@pytest.mark.parametrize("is_stopped", [False, True])
def test_another_dvc_may_work_meanwhile(
    is_stopped: bool, toy: Path, runner: subprocess.Popen[str]
) -> None:
    """As one that pushes, for longer than DVC tries to get its lock; a signal ends all still."""
    while len(began(toy)) < 3:
        assert runner.poll() is None, runner.communicate()[1]
        time.sleep(0.05)
    jobs = psutil.Process(runner.pid).children(recursive=True)
    with alone(toy) as free:
        assert free
        ended = began(toy)[-1]
        (toy / f"enough-{ended}").touch()
        time.sleep(5)
        assert runner.poll() is None
        if is_stopped:
            runner.send_signal(signal.SIGTERM)
            _, said = runner.communicate(timeout=30)
            assert runner.returncode == 143
    if not is_stopped:
        wait_for(lambda: len(began(toy)) == 4)  # in its place
        runner.send_signal(signal.SIGTERM)
        _, said = runner.communicate(timeout=30)
    assert (f"{ended}: done in" in said.replace("@", "")) != is_stopped
    assert said.count("waits for another DVC that works in this folder") == 1
    assert not psutil.wait_procs(jobs, timeout=5)[1]
    assert not any(json.loads((toy / ".dvc/tmp/rwlock").read_text()).values())


COMMAND = """\
import os, sys
from pathlib import Path
from segbench.workspace import run_in_group
arguments = [sys.executable, "-m", "segbench.jobs", "--jobs", "2"]
sys.exit(run_in_group(arguments, Path(), os.environ)[1])
"""


def states(command: psutil.Process) -> list[str]:
    """Of the processes of the jobs."""
    (driver,) = command.children()
    return [one.status() for one in driver.children(recursive=True)]


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_jobs_pause_and_go_on_with_the_command(toy: Path) -> None:
    """As by Ctrl-Z and fg; and a terminal that is closed meanwhile ends them."""
    values(toy, seconds=60)
    tree = read_params()
    tree["hardware"]["device"] = "cpu"
    write_params(tree, toy / "params.yaml")
    dvc("repro", "-s", "timed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SEGBENCH_CORES": "2"}
    process = subprocess.Popen([sys.executable, "-c", COMMAND], env=environment)
    command = psutil.Process(process.pid)
    try:
        wait_for(lambda: len(began(toy)) == 3)
        process.send_signal(signal.SIGTSTP)
        wait_for(lambda: command.status() == psutil.STATUS_STOPPED)
        wait_for(lambda: {*states(command)} == {psutil.STATUS_STOPPED})
        time.sleep(2)
        assert {*states(command)} == {psutil.STATUS_STOPPED}
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: psutil.STATUS_STOPPED not in states(command))
        assert len(states(command)) >= 2

        process.send_signal(signal.SIGTSTP)  # and goes on before it could stop
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        wait_for(lambda: psutil.STATUS_STOPPED not in states(command))

        process.send_signal(signal.SIGTSTP)
        wait_for(lambda: {*states(command)} == {psutil.STATUS_STOPPED})
        jobs = command.children(recursive=True)
        for number in (signal.SIGHUP, signal.SIGCONT):  # what a kernel sends
            process.send_signal(number)
        assert process.wait(timeout=30) == signal.SIGHUP
        assert not psutil.wait_procs(jobs, timeout=5)[1]
    finally:
        for one in [*command.children(recursive=True), command] if command.is_running() else []:
            one.kill()
        process.wait()


def asking(runs: int = 6, **own: Any) -> Params:
    """Params of so many runs, and what they say of hardware."""
    tree = read_params()
    tree["hardware"] |= own
    tree["comparison"] |= {"candidates": ["resnet18"], "seeds": [*range(runs)]}
    return Params.model_validate(tree)


def test_a_slot_is_a_gpu_or_a_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a,7,8")
    pairs = slots_of("auto", asking(device="auto", devices=2))
    assert [slot.environment for slot in pairs] == [
        {"CUDA_VISIBLE_DEVICES": "3,GPU-5a"},
        {"CUDA_VISIBLE_DEVICES": "7,8"},
    ]
    with pytest.raises(
        InputError, match="--jobs 5: this machine has 4 GPUs, 1 for each job; set 4"
    ):
        slots_of("5", asking(device="cuda"))
    monkeypatch.setenv("SEGBENCH_CORES", "6")
    for jobs, number, share in (("auto", 6, 1), ("2", 2, 3), ("4", 4, 1)):
        slots = slots_of(jobs, asking(device="cpu"))
        assert [slot.environment["OMP_NUM_THREADS"] for slot in slots] == [str(share)] * number
    assert len(slots_of("auto", asking(device="cpu", devices=4))) == 1
    with pytest.raises(InputError, match="--jobs 7: this machine has 6 cores"):
        slots_of("7", asking(device="cpu"))


def test_no_slot_stays_empty_and_none_is_overfull(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_CORES", "6")
    two = slots_of("auto", asking(runs=2, device="cpu"))
    assert [slot.says for slot in two] == ["3 cores", "3 cores"]
    # Each training takes as many threads as params.yaml says.
    assert len(slots_of("auto", asking(device="cpu", threads=2))) == 3
    with pytest.raises(InputError, match="--jobs 4: this machine has 6 cores, 2 for each job"):
        slots_of("4", asking(device="cpu", threads=2))


def test_a_cpu_runs_stages_side_by_side_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_CORES", "4")
    assert default_jobs(asking(device="cpu")) == "auto"
    assert default_jobs(asking(runs=1, device="cpu")) == ""
    assert default_jobs(asking(device="cuda")) == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert default_jobs(asking(device="auto")) == ""
    monkeypatch.setenv("SEGBENCH_CORES", "1")
    assert default_jobs(asking(device="cpu")) == ""


def test_a_job_waits_for_the_memory_that_the_last_one_of_its_kind_took() -> None:
    memory = Memory()
    assert memory.suffices("train")
    code = "import time; held = bytearray(200 << 20); print('x', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        memory.look("train", process.pid)
        process.kill()
    assert 200 << 20 <= memory.most["train"] <= 260 << 20
    assert memory.suffices("train")
    memory.most["train"] = 1 << 50
    assert not memory.suffices("train")
    assert memory.suffices("evaluate")


if __name__ == "__main__":
    run(stream=sys.stderr)
