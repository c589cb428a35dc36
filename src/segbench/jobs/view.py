"""One view of all jobs: lines in a log, and on a terminal a table of what runs below them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segbench.errors import without_secrets
from segbench.jobs.forecast import LEFT, Forecast
from segbench.jobs.pipeline import Stage
from segbench.progress import PERIOD_S, duration

KEPT_LINES = 40
"""So many lines of a stage a terminal shows if it fails, of those that are not its progress."""
TOLD = ("warning:", "mended:")
"""How lines begin that a terminal shows at once."""


class View:
    """Says what happens.

    Args:
        stages: all of them, each after those that it needs.
        slots: as many run at a time.
        stream: where it says so.
        clock: seconds.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        slots: int,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._clock = len(stages), clock
        self._forecast = Forecast(stages, slots)
        # What stages say is shown as it is: no markup, no emoji.
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}
        self._last: dict[str, str] = {}
        self._lines: dict[str, deque[str]] = {}
        self._finished = self._ready = 0
        self._summed = clock()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            get_renderable=self._table,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._live.stop()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """In which there is no table, so that a shell can use the terminal."""
        shown = self._live.is_started
        self.__exit__()
        yield
        if shown:
            self.__enter__()

    def starts(self, stage: Stage) -> None:
        """A stage is about to run: it may say something at once."""
        with self._lock:
            self._began[stage.name] = self._clock()
            self._last[stage.name] = "starts"
            self._lines[stage.name] = deque(maxlen=KEPT_LINES)
            self._forecast.started(stage.name, self._clock())

    def started(self, stage: Stage, where: str) -> None:
        """A stage runs."""
        with self._lock:
            self._say(f"{stage.name}: starts{f', with {where}' if where else ''}")

    def heard(self, stage: Stage, line: str) -> None:
        """A stage said something; called in any thread, by a cluster even after its end."""
        line = without_secrets(line)
        with self._lock:
            self._forecast.heard(stage.name, line, self._clock())
            if stage.name in self._began:
                self._keep(stage, line)
            # On a terminal the table has the last line.
            if not self._console.is_terminal or line.startswith(TOLD):
                self._say(f"{stage.name}: {line}")

    def _keep(self, stage: Stage, line: str) -> None:
        if LEFT.search(line):
            self._last[stage.name] = line.partition(": ")[2] or line  # its label is the stage's
        else:
            self._last[stage.name] = line
            self._lines[stage.name].append(line)

    def expect(self, slots: int) -> None:
        """So many stages will run at a time from now on."""
        with self._lock:
            self._forecast.slots = slots

    def note(self, line: str) -> None:
        """Say what is no matter of one stage; called in any thread."""
        with self._lock:
            self._say(line)

    def kept(self, stage: Stage) -> None:
        """A stage need not run."""
        with self._lock:
            self._finished += 1
            self._forecast.kept(stage.name)

    def done(self, stage: Stage) -> None:
        """A stage ran."""
        with self._lock:
            took = self._clock() - self._began[stage.name]
            self._end(stage)
            self._forecast.done(stage.name, self._clock())
            self._say(f"{stage.name}: done in {duration(took)}{self._so_far()}")

    def failed(self, stage: Stage, why: str) -> None:
        """A stage failed."""
        with self._lock:
            lines = self._lines.get(stage.name, ())
            self._end(stage)
            self._forecast.failed(stage.name)
            if self._console.is_terminal:
                for line in [*lines][:-1]:  # 'why' has the last one
                    self._say(f"{stage.name}: {line}")
            self._say(f"{stage.name}: failed: {why}")

    def look(self, ready: int) -> None:
        """Show how far all is, now and then.

        Args:
            ready: number of stages that could start.
        """
        with self._lock:
            self._ready = ready
            if self._console.is_terminal:
                self._live.refresh()
            elif self._clock() - self._summed >= PERIOD_S:
                self._summed = self._clock()
                self._say(self._summary())

    def _end(self, stage: Stage) -> None:
        self._began.pop(stage.name, None)
        self._last.pop(stage.name, None)
        self._lines.pop(stage.name, None)
        self._finished += 1

    def _say(self, line: str) -> None:
        self._console.print(without_secrets(line), soft_wrap=True)
        if self._live.is_started:
            self._live.refresh()

    def _so_far(self) -> str:
        return f" ({self._finished} of {self._total} stages)"

    def _summary(self) -> str:
        parts = [f"{len(self._began)} run", f"{self._ready} could start{self._so_far()}"]
        return ", ".join([*parts, *filter(None, [self._forecast.words(self._clock())])])

    def _table(self) -> Table:
        """The summary first: what a low terminal has no room for is left out below it."""
        table = Table.grid()
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_row(Text(self._summary()))
        width = max(map(len, self._began), default=0)
        for name, began in self._began.items():
            took = duration(self._clock() - began)
            table.add_row(Text(f"  {name:<{width}}  {took}  {self._last[name]}"))
        return table
