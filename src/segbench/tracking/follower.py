"""The follower: a process that replays a record into MLflow while a stage writes it.

It starts before its stage imports torch and imports MLflow meanwhile, so that it has little left to
do once training takes all cores.
"""

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

FOLLOW = "SEGBENCH_FOLLOW"
"""Variable that is 'no' where somebody else replays the records, once they are whole."""
TOLD = 3
"""Exit status of a follower that has said why MLflow lacks something."""
UNSENT = Path(".dvc/tmp/segbench/unsent")
"""Folder in a workspace: a file for each record that MLflow may lack, with the record's folder."""
LEAVE_S = 1.0
"""A follower that is told to end takes no longer, unless it hangs."""


class Follower:
    """Starts without a record; `follow` names it later."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "segbench.tracking", str(os.getpid())]
        # One thread: following must not take processor time from training.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        # A process group of its own: Ctrl-C ends the stage, and the follower still reports how it
        # ended. Not a session, which Linux would schedule on a par with the stage, nice or not.
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, text=True, process_group=0
        )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, 10)

    def follow(self, folder: Path) -> None:
        """Replay the record in a folder until it has ended and all of it is in MLflow."""
        if Path(".dvc").is_dir():
            UNSENT.mkdir(parents=True, exist_ok=True)
            mark_of(folder).write_text(f"{folder.absolute()}\n")
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, which `wait` reports
            self._process.stdin.write(f"{folder}\n")
            self._process.stdin.close()

    def wait(self, max_wait_s: float) -> bool:
        """Wait up to `max_wait_s` seconds for it, then kill it.

        Returns:
            Whether everything is in MLflow, or it has said why not.
        """
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=max_wait_s) in (0, TOLD)
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=LEAVE_S) == TOLD
        self.end()
        return False

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


def mark_of(folder: Path) -> Path:
    """The file in `UNSENT` of a record; its follower removes it once MLflow has all of it."""
    return UNSENT / hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]


_waiting: list[Follower] = []


def wanted() -> bool:
    """Whether records are followed while they are written; else they are replayed later."""
    return os.environ.get(FOLLOW) != "no"


def start() -> None:
    """Start a follower for the next record of this process, if it is wanted."""
    if wanted():
        _waiting.append(Follower())


def ready() -> Follower:
    """The follower that `start` started, else a new one."""
    return _waiting.pop() if _waiting else Follower()


def end_unused() -> None:
    """Kill a follower that no record was opened for."""
    while _waiting:
        _waiting.pop().end()
