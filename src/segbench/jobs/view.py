"""One view of all jobs: lines in a log, and on a terminal a table of what runs below them."""

import threading
import time
from collections.abc import Callable
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from segbench.jobs.pipeline import Stage
from segbench.progress import PERIOD_S, duration


class View:
    """Says what happens.

    Args:
        total: number of stages.
        stream: where it says so.
        clock: seconds.
    """

    def __init__(
        self, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total, self._clock = total, clock
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}
        self._last: dict[str, str] = {}
        self._finished = 0
        self._summed = clock()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, stage: Stage, where: str) -> None:
        """A stage runs."""
        with self._lock:
            self._began[stage.name] = self._clock()
            self._last[stage.name] = "starts"
            self._say(f"{stage.name}: starts{f', with {where}' if where else ''}")

    def heard(self, stage: Stage, line: str) -> None:
        """A stage said something; called in any thread."""
        with self._lock:
            self._last[stage.name] = line
            # On a terminal the table has the last line.
            if not self._console.is_terminal:
                self._say(f"{stage.name}: {line}")

    def kept(self, stage: Stage) -> None:
        """A stage need not run."""
        with self._lock:
            self._finished += 1

    def done(self, stage: Stage) -> None:
        """A stage ran."""
        with self._lock:
            took = self._clock() - self._began[stage.name]
            self._end(stage)
            self._say(f"{stage.name}: done in {duration(took)}{self._so_far()}")

    def failed(self, stage: Stage, why: str) -> None:
        """A stage failed."""
        with self._lock:
            self._end(stage)
            self._say(f"{stage.name}: failed: {why}")

    def look(self, ready: int) -> None:
        """Show how far all is, now and then."""
        with self._lock:
            if self._console.is_terminal:
                self._live.update(self._table(), refresh=True)
            elif self._clock() - self._summed >= PERIOD_S:
                self._summed = self._clock()
                running = len(self._began)
                self._say(f"{running} run, {ready} could start{self._so_far()}")

    def _end(self, stage: Stage) -> None:
        self._began.pop(stage.name, None)
        self._last.pop(stage.name, None)
        self._finished += 1

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)

    def _so_far(self) -> str:
        return f" ({self._finished} of {self._total} stages)"

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name, began in self._began.items():
            table.add_row(name, f"{duration(self._clock() - began)}  {self._last[name]}")
        table.add_row("", f"{len(self._began)} run{self._so_far()}")
        return table
