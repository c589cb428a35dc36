"""What runs in a worker process of Dask: it keeps clones of the workspace, and runs stages in them.

Sent there by value: a worker needs the libraries and git, and no segbench of its own. For the same
reason this module imports nothing of segbench.
"""

import fcntl
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from distributed import WorkerPlugin, get_worker

NAME = "segbench"
"""Of the plugin, of the resource that a worker has for each stage it can run at a time, and of the
topic of its messages."""
BEAT_S = 1.0
PATIENCE_S = 40.0
"""A stage that was told to stop is killed after so long."""
LAST_LINES = 3


class UnfitError(Exception):
    """The worker could not run a stage, for a reason that another one may not have."""


class Agent(WorkerPlugin):  # type: ignore[misc]
    """Runs stages of one revision of a workspace.

    Args:
        revision: see `revision.Revision`; its fields.
        versions: of Python and of the packages that determine a number.
        folder: see `ClusterSettings`.
        silent_s: a stage whose worker says nothing for so long ends.
        devices: GPUs of each stage; 0: it uses none.
    """

    name = NAME

    def __init__(
        self,
        revision: Mapping[str, Any],
        versions: Mapping[str, str],
        folder: str,
        silent_s: float,
        devices: int,
    ) -> None:
        self._revision, self._versions, self._folder = revision, versions, folder
        self._silent_s, self._devices = silent_s, devices

    async def setup(self, worker: Any) -> None:
        """Check the worker's libraries; only one that has the right ones gets stages."""
        self._slots: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        if why := self._unlike():
            worker.log_event(NAME, {"refused": f"{worker.name} on {platform.node()}: {why}"})
            return
        slots = _slots(self._devices, worker.state.nthreads)
        for slot in slots:
            self._slots.put(slot)
        await worker.set_resources(**{NAME: len(slots)})

    def _unlike(self) -> str:
        """What the worker has otherwise than the driver."""
        own = {name: _version(name) for name in self._versions}
        other = [
            f"{name} {own[name]} instead of {wanted}"
            for name, wanted in self._versions.items()
            if own[name] != wanted
        ]
        if shutil.which("git") is None:
            other.append("no git")
        return ", ".join(other)

    def run(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run a stage.

        Args:
            job: see `workers.Workers`.

        Returns:
            `entry`, its entry in the run cache; or `failed`, why it failed.

        Raises:
            UnfitError: if the stage could not be run here.
        """
        slot = self._slots.get()
        try:
            with self._clone() as (clone, lock):
                self._bring_up_to_date(clone)
                _place(clone, job)
                return self._run_in(clone, lock, slot, job)
        except (OSError, subprocess.CalledProcessError) as problem:
            said = getattr(problem, "stderr", None) or problem
            raise UnfitError(f"{platform.node()}: {' '.join(str(said).split())[-300:]}") from None
        finally:
            self._slots.put(slot)

    @contextmanager
    def _clone(self) -> Iterator[tuple[Path, int]]:
        """A clone that no other stage uses, and the file descriptor of its lock."""
        base = Path(os.path.expandvars(self._folder)).expanduser()
        for number in range(10_000):
            place = base / f"clone-{number}"
            place.mkdir(parents=True, exist_ok=True)
            with (base / f"clone-{number}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield place, lock.fileno()
                return
        raise UnfitError(f"{base}: all clones are in use")

    def _bring_up_to_date(self, clone: Path) -> None:
        commit, tree, pack = (self._revision[name] for name in ("commit", "tree", "pack"))
        mark = clone / ".git/segbench"
        # What a worker or a stage that was killed here may have left.
        for left in (".git/index.lock", ".dvc/tmp/rwlock"):
            (clone / left).unlink(missing_ok=True)
        if not mark.exists():
            shutil.rmtree(clone / ".git", ignore_errors=True)
        if mark.exists() and mark.read_text() == f"{commit} {tree}":
            return
        _git(clone, "init", "--quiet")
        mark.unlink(missing_ok=True)
        _git(clone, "unpack-objects", "-q", given=pack)
        (clone / ".git/shallow").write_text(f"{commit}\n")
        branch = self._revision["branch"]
        if branch == "HEAD":
            _git(clone, "update-ref", "--no-deref", "HEAD", commit)
        else:
            _git(clone, "update-ref", f"refs/heads/{branch}", commit)
            _git(clone, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
        _git(clone, "clean", "-fdq")
        _git(clone, "read-tree", "-u", "--reset", tree)
        _git(clone, "read-tree", "HEAD")  # what is not committed there is not committed here
        mark.write_text(f"{commit} {tree}")

    def _run_in(
        self, clone: Path, lock: int, slot: Mapping[str, str], job: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        result = clone / ".git/segbench-result.json"
        result.unlink(missing_ok=True)
        worker = get_worker()
        key = worker.get_current_task()
        given = {"stage": job["stage"], "remote": job["remote"], "silent_s": self._silent_s}
        given |= {"commit": self._revision["commit"], "lent": job["lent"], "result": str(result)}
        binaries = str(Path(sys.executable).parent)
        variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
            **{key: os.environ.get(key, value) for key, value in job["environment"].items()},
            **slot,
            "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(clone / "src"),
        }
        said: list[str] = []
        with subprocess.Popen(
            [sys.executable, "-m", "segbench.cluster.stage"],
            cwd=clone,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            pass_fds=[lock],  # which it holds where it outlives this worker
            bufsize=0,  # else what a process that has ended was not told is an error at the end
        ) as process:
            assert process.stdin
            assert process.stdout
            _tell(process.stdin, json.dumps(given))

            def say(line: str) -> None:
                said[:] = [*said, line][-LAST_LINES:]
                worker.log_event(NAME, {"stage": job["stage"], "key": key, "line": line})

            say(f"starts on {platform.node()}, worker {worker.name}")
            listener = threading.Thread(target=_listen, args=(process.stdout, say), daemon=True)
            listener.start()
            told, until = False, float("inf")
            while process.poll() is None:
                time.sleep(BEAT_S)
                _tell(process.stdin, "")
                if not told and _unwanted(worker, key):
                    told, until = True, time.monotonic() + PATIENCE_S
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGINT)
                if time.monotonic() > until:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
            listener.join(timeout=BEAT_S)
        if result.exists():
            return dict(json.loads(result.read_text()))
        raise UnfitError(f"{platform.node()}: {' '.join(said) or 'nothing was said'}")


def be_patient(seconds: float, retries: int, dask_scheduler: Any = None) -> None:
    """Set, in the scheduler's process, when workers are given up, and after how many of them a
    stage is."""
    from tornado.ioloop import PeriodicCallback

    dask_scheduler.worker_ttl = seconds
    dask_scheduler.allowed_failures = retries
    if former := dask_scheduler.periodic_callbacks.get("worker-ttl"):
        former.stop()
    look = PeriodicCallback(dask_scheduler.check_worker_ttl, seconds * 250)
    dask_scheduler.periodic_callbacks["worker-ttl"] = look
    look.start()


def wake(dask_scheduler: Any = None) -> None:
    """Let the scheduler's process give stages that wait to workers that came meanwhile: it looks
    for such when a worker joins, and a worker can run stages only a moment later."""
    why = f"{NAME}-{time.time()}"
    for worker in dask_scheduler.workers.values():
        waiting = dask_scheduler.bulk_schedule_unrunnable_after_adding_worker(worker)
        dask_scheduler.transitions(waiting, why)


def _unwanted(worker: Any, key: str) -> bool:
    """Whether the driver has taken a task back, or is gone."""
    task = worker.state.tasks.get(key)
    return task is None or task.state not in ("executing", "long-running")


def _slots(devices: int, threads: int) -> list[Mapping[str, str]]:
    """Variables of each stage that a worker can run at a time: as many as it has GPUs for; where
    it has none, one, with as many cores as the worker has threads."""
    if devices and (gpus := _gpus()):
        groups = [gpus[at : at + devices] for at in range(0, len(gpus), devices)]
        whole = [group for group in groups if len(group) == devices]
        return [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in whole[:threads]]
    return [{"SEGBENCH_CORES": str(threads), "OMP_NUM_THREADS": str(threads)}]


def _gpus() -> list[str]:
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(at) for at, line in enumerate(listed.stdout.splitlines()) if line.strip()]


def _version(package: str) -> str:
    if package == "python":
        return platform.python_version()
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _place(clone: Path, job: Mapping[str, Any]) -> None:
    """Write what a job brings along."""
    config = clone / ".dvc/config.local"
    cache = job["cache"] or clone.parent / "cache"
    config.write_text(f"[cache]\n    dir = {cache}\n{job['config']}")
    for path, content in {"dvc.lock": job["lock"].encode(), **job["files"]}.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_bytes(content)
    for name, there in job["links"].items():
        if not (clone / name).exists() and Path(there).exists():
            (clone / name).unlink(missing_ok=True)
            (clone / name).symlink_to(there)


def _git(clone: Path, *arguments: str, given: bytes = b"") -> None:
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(clone), *arguments]
    subprocess.run(command, input=given, env=own, capture_output=True, check=True)


def _tell(pipe: IO[bytes], line: str) -> None:
    with suppress(OSError):
        pipe.write(f"{line}\n".encode())
        pipe.flush()


def _listen(pipe: IO[bytes], say: Any) -> None:
    for line in pipe:
        if text := line.decode(errors="replace").rstrip():
            say(text)
