"""How far a long loop is: a bar on a terminal, and a line every half minute in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

PERIOD_S = 30.0
"""Between two lines."""


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # no thread that watches the bars


class ProgressBar:
    """Reports on stderr how far a loop is.

    No thread does it: the call of `update` that finds a line due prints it.

    Args:
        label: what runs.
        total: of `update`; None if it is unknown.
        units: what is counted, in the plural.
        scale: number of updates that make one unit.
        place: where the loop is, in words, instead of how many units are done.
        speed: what to give the speed in, and how many of it an update makes; None: units.
        shown: False in all processes but the first, and where nobody is to be told.
        clock: seconds.
        stream: in place of stderr.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        units: str = "images",
        *,
        scale: float = 1,
        place: Callable[[], str] | None = None,
        speed: tuple[str, float] | None = None,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
        stream: TextIO | None = None,
    ) -> None:
        self._label, self._units, self._scale = label, units, scale
        self._place = place or self._count
        self._speed = speed or (units, 1 / scale)
        self._note = ""
        self._clock = clock
        self._stream = stream or sys.stderr
        self._prints = shown and not self._stream.isatty()
        self._total = total
        self._done = self._first = 0
        self._began = self._printed = clock()
        self._bar = _Bar(
            total=total,
            desc=label,
            unit=units.removesuffix("s"),
            unit_scale=1 / scale if scale != 1 else False,
            miniters=1,
            file=self._stream,
            disable=not shown or self._prints,
        )

    @property
    def total(self) -> int | None:
        """Number of updates there will be; None if it is unknown."""
        return self._total

    @total.setter
    def total(self, total: int | None) -> None:
        self._total = self._bar.total = total or None

    def update(self, count: int = 1) -> None:
        """Count what was done."""
        self._done += count
        self._bar.update(count)
        self.remind()

    def remind(self) -> None:
        """Print a line if one is due, where something else than counting takes long."""
        if self._prints and self._clock() - self._printed >= PERIOD_S:
            self._printed = self._clock()
            print(f"{self._label}: {self._line()}", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Show a text behind the numbers from now on."""
        self._note = text
        self._bar.set_postfix_str(text)

    def reset(self) -> None:
        """Count from 0 again, as pooch does of its bar at the end of a download."""
        self._done = self._bar.n = 0

    def go_on_from(self, done: int) -> None:
        """Set how much was done before, as by a training that is resumed: it has no speed."""
        self._done = self._first = done
        self._began = self._clock()
        self._bar.reset()
        self._bar.initial = self._bar.n = self._bar.last_print_n = done
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count(self) -> str:
        done = _number(self._done / self._scale)
        of = f" of {_number(self._total / self._scale)}" if self._total else ""
        return f"{done}{of} {self._units}"

    def _line(self) -> str:
        per_second = (self._done - self._first) / max(self._clock() - self._began, 1e-9)
        name, factor = self._speed
        parts = [self._place()]
        if self._total:
            parts.append(f"{100 * self._done / self._total:.0f} %")
        parts.append(f"{_number(per_second * factor)} {name}/s")
        if self._total and per_second:
            parts.append(f"{duration((self._total - self._done) / per_second)} left")
        return ", ".join([*parts, *filter(None, [self._note])])


def with_progress(
    items: Iterable[Item], label: str, total: int | None, units: str = "images"
) -> Iterator[Item]:
    """Yield items and report how many were taken; see `ProgressBar`."""
    with ProgressBar(label, total, units) as bar:
        for item in items:
            yield item
            bar.update()


def duration(seconds: float) -> str:
    """A time in words: '2 min 05 s', '1 h 10 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def rough_duration(seconds: float) -> str:
    """A time that is known roughly, in words: '40 s', '4 min', '1 h 10 min'."""
    if seconds < 55:
        return f"{max(10, 10 * round(seconds / 10))} s"
    return duration(seconds) if seconds >= 3570 else f"{round(seconds / 60)} min"


def in_bytes(amount: float) -> str:
    """An amount of bytes in words: '35 MiB', '1.2 GiB'."""
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount / 2**20:.0f} MiB"


def _number(value: float) -> str:
    """With one decimal below 10."""
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"
