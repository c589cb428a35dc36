"""The process of a job: a command in a group of its own, whose lines are handed on."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from segbench.jobs.pipeline import Command


class Process:
    """A command that runs.

    Args:
        command: to run.
        environment: more variables of it.
        hear: gets each line of its output, in another thread.
        ended: called once it has ended, in another thread.
        where: what it has of this machine, in words.
    """

    def __init__(
        self,
        command: Command,
        environment: Mapping[str, str],
        hear: Callable[[str], None],
        ended: Callable[[], None],
        where: str = "",
    ) -> None:
        self.where = where
        self._last = "it said nothing"
        self._hear, self._ended = hear, ended
        self._process = subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env={**command.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            with self._process.stdout as output:
                for line in output:
                    if line := line.rstrip():
                        self._last = line
                        self._hear(line)
        finally:  # whatever becomes of its lines: its end is waited for
            self._process.wait()
            self._ended()

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    @property
    def why(self) -> str:
        """Why it failed: the last line it said, and how it ended."""
        status = self.status or 0
        how = f"exit status {status}" if status > 0 else f"ended by {signal.Signals(-status).name}"
        return f"{self._last} ({how})"

    @property
    def made(self) -> str | None:
        """It ran here, so that its outputs lie here."""
        return None

    @property
    def id(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.id, number)
