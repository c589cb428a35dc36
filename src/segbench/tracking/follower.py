"""The follower: a process that replays a record into MLflow while a stage writes it.

It starts before its stage has imported anything, and takes as long to import MLflow as that takes
to import torch: when training takes all cores, the follower has little left to do.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


class Follower:
    """Is there from the start; what it shall follow, it is told later."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "segbench.tracking", "--follow", str(os.getpid())]
        # One thread: what follows must not take the processor from what trains.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        # A group of its own: Ctrl-C ends the stage, and the follower still brings how it ended. Not
        # a session, which Linux would give as much of the processor as the stage's, nice or not.
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, text=True, process_group=0
        )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, 10)

    def follow(self, folder: Path) -> None:
        """Replay the record in a folder, until it has ended and all of it is in MLflow."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, which `wait` says
            self._process.stdin.write(f"{folder}\n")
            self._process.stdin.close()

    def wait(self, max_wait_s: float) -> bool:
        """Wait until it is done, but no longer than that; did it bring everything?"""
        try:
            return self._process.wait(timeout=max_wait_s) == 0
        except subprocess.TimeoutExpired:
            self.end()
            return False

    def end(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


_waiting: list[Follower] = []


def start() -> None:
    """Have a follower ready for the next record of this process."""
    _waiting.append(Follower())


def ready() -> Follower:
    """The one that was started, or else a new one."""
    return _waiting.pop() if _waiting else Follower()


def end_unused() -> None:
    """End one that no record was opened for."""
    while _waiting:
        _waiting.pop().end()
