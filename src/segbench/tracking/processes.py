"""Which process writes a run, whether it lives, and what becomes of runs that a kill left open.

The follower tags a run with the process of its stage, and renews that every minute. On the same
machine the process is looked for; of another machine all that can be seen is that the tag is not
renewed any more. A run that was closed too early, since a network was gone, is opened again by its
own follower.
"""

import hashlib
import os
import platform
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil
from filelock import FileLock, Timeout
from mlflow.tracking import MlflowClient

from segbench.tracking.records import now_ms

RUN_TAG = "segbench.run"
"""Of every run that segbench makes: its record's id."""
PROCESS_TAG = "segbench.process"
"""Of a run that is being written: by whom, and when that was last seen."""
BEAT_S = 60.0
LOST_S = 15 * 60.0
"""A process of another machine that was not seen for so long is taken for lost."""
UNTOLD_S = 24 * 3600.0
"""The same of a run that names no process: an earlier version wrote it, or `segbench sync` made it
of a record that has not ended."""
SAME_S = 2.0
"""The clock by which a process started is set now and then."""
MOST = 1000


class Writer(NamedTuple):
    """A process that writes a run.

    Attributes:
        host: name of its machine, for people.
        place: hash of the machine, since when it runs, and the container: where its number means
            this process.
        pid: its number.
        started_s: UNIX time.
        seen_ms: UNIX time.
    """

    host: str
    place: str
    pid: int
    started_s: float
    seen_ms: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process of that number, seen now; if it has ended, one that has."""
        host = platform.node().replace(" ", "_") or "unknown"
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            started = 0.0
        return cls(host, _place(), pid, started, now_ms())

    @classmethod
    def read(cls, value: str) -> Self | None:
        """Of a tag's value; None if that is none."""
        try:
            host, place, pid, started, seen = value.split()
            return cls(host, place, int(pid), float(started), int(seen))
        except ValueError:
            return None

    @property
    def value(self) -> str:
        """Of the tag."""
        return f"{self.host} {self.place} {self.pid} {self.started_s:.2f} {self.seen_ms}"

    @property
    def is_lost(self) -> bool:
        """Whether it has ended, or is taken for lost."""
        if self.place != _place():
            return now_ms() - self.seen_ms > 1000 * LOST_S
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return True
        return abs(started - self.started_s) > SAME_S

    def is_same(self, other: "Writer | None") -> bool:
        """Whether both are one process, whenever seen."""
        return other is not None and self[:3] == other[:3]


def _place() -> str:
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        parts.append(f"{psutil.boot_time():.0f}")  # not Linux
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def lock_of(record: str) -> FileLock:
    """The lock that a process of this machine holds while it tells MLflow of a run.

    Args:
        record: id of the run's record, whatever somebody's server says it is.
    """
    name = hashlib.sha256(record.encode()).hexdigest()[:32]
    return FileLock(Path(tempfile.gettempdir()) / f"segbench-{name}.lock")


def close_abandoned(client: MlflowClient, experiments: Sequence[str], own: str = "") -> list[str]:
    """Close runs whose stage was killed, as KILLED.

    Args:
        client: of the tracking server.
        experiments: their ids.
        own: MLflow's id of a run that is known to be written.

    Returns:
        Names of the runs that were closed.
    """
    if not experiments:
        return []
    running = client.search_runs([*experiments], "attributes.status = 'RUNNING'", max_results=MOST)
    closed = []
    for found in running:
        if RUN_TAG not in found.data.tags or found.info.run_id == own or not _is_abandoned(found):
            continue
        # Its stage may have ended well since it was searched for, or its follower is telling that.
        # The lock of another account's is for that account to take.
        with (
            suppress(Timeout, PermissionError),
            lock_of(found.data.tags[RUN_TAG]).acquire(timeout=0),
        ):
            run = client.get_run(found.info.run_id)
            if run.info.status == "RUNNING" and _is_abandoned(run):
                close_killed(client, run)
                closed.append(str(run.info.run_name))
    return closed


def _is_abandoned(run: Any) -> bool:
    writer = Writer.read(run.data.tags.get(PROCESS_TAG, ""))
    if writer is None:
        return now_ms() - run.info.start_time > 1000 * UNTOLD_S
    return writer.is_lost


def close_killed(client: MlflowClient, run: Any) -> None:
    """Close a run (MLflow's entity) at the time at which its process was last seen."""
    writer = Writer.read(run.data.tags.get(PROCESS_TAG, ""))
    seen = max(writer.seen_ms if writer else 0, run.info.start_time)
    client.set_terminated(run.info.run_id, "KILLED", seen)
    if writer:
        client.delete_tag(run.info.run_id, PROCESS_TAG)
