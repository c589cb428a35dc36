"""How long all stages will still take, by how long those that ended took."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from segbench.jobs.list_schedule import Slots, lay_out
from segbench.jobs.pipeline import Stage
from segbench.progress import rough_duration

LEFT = re.compile(r"(?:(\d+) h )?(\d+) min(?: (\d+) s)? left\b")
"""How a line of a `ProgressBar` ends."""

Durations = Mapping[tuple[str, ...], Sequence[float]]
"""Seconds of stages, by each beginning of their names."""


class Forecast:
    """Plays the rest of a schedule with the stages' likely durations.

    A stage takes as long as it says itself, else as those did that ended and have most of the
    beginning of its name in common: the same candidate with another seed, or any of its kind. Until
    one has ended, those count that run and say how long they take.

    Args:
        stages: each after those that it needs.
        slots: as many run at a time.
    """

    def __init__(self, stages: Sequence[Stage], slots: int) -> None:
        self.slots = slots
        self._left = {stage.name: stage for stage in stages}
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._took: dict[tuple[str, ...], list[float]] = defaultdict(list)

    def started(self, name: str, now: float) -> None:
        """A stage runs since now, in seconds of some clock."""
        self._began[name] = now

    def heard(self, name: str, line: str, now: float) -> None:
        """A stage said something, which may be how long it will take."""
        if name in self._began and (left := LEFT.search(line)):
            hours, minutes, seconds = (int(number or 0) for number in left.groups())
            rest = 3600 * hours + 60 * minutes + seconds
            self._said[name] = now - self._began[name] + rest

    def done(self, name: str, now: float) -> None:
        """A stage ended."""
        for beginning in _beginnings(name):
            self._took[beginning].append(now - self._began[name])
        self._forget(name)

    def kept(self, name: str) -> None:
        """A stage need not run, which says nothing of others."""
        self._forget(name)

    def failed(self, name: str) -> None:
        """A stage failed: nor will those run that need it."""
        lost = {name}
        for stage in [*self._left.values()]:
            if stage.name == name or stage.needs & lost:
                lost.add(stage.name)
                self._forget(stage.name)

    def _forget(self, name: str) -> None:
        self._left.pop(name)
        self._began.pop(name, None)
        self._said.pop(name, None)

    def words(self, now: float) -> str:
        """'about 4 min left'; 'at least' where some stages may take any time; empty if all may."""
        said = _by_beginning(self._said.items())
        likely = {name: self._likely(name, said) for name in self._left}
        rest = self._played({name: seconds or 0.0 for name, seconds in likely.items()}, now)
        if not rest:
            return ""
        about = "at least" if None in likely.values() else "about"
        return f"{about} {rough_duration(rest)} left"

    def _likely(self, name: str, said: Durations) -> float | None:
        """Seconds that a stage takes in all; None if nothing is known of its kind."""
        if name in self._said:
            return self._said[name]
        for beginning in _beginnings(name):
            for known in (self._took, said):
                if beginning in known:
                    return fmean(known[beginning])
        return None

    def _played(self, takes: Mapping[str, float], now: float) -> float:
        """Seconds until the last stage ends, if each takes so many."""
        running = {name: max(0.0, began + takes[name] - now) for name, began in self._began.items()}
        # More may run than there are slots: a worker was lost, or one waits for the next.
        slots = Slots(max(self.slots, len(running)), takes)
        spans = lay_out([*self._left.values()], slots, running)
        return max((span.end for span in spans), default=0.0)


def _by_beginning(durations: Iterable[tuple[str, float]]) -> Durations:
    found = defaultdict(list)
    for name, seconds in durations:
        for beginning in _beginnings(name):
            found[beginning].append(seconds)
    return found


def _beginnings(name: str) -> list[tuple[str, ...]]:
    """(train, resnet18, 0, 1) of train@resnet18-0-1, and all shorter ones, the longest first."""
    kind, _, item = name.partition("@")
    parts = (kind, *item.split("-"))
    return [parts[:number] for number in range(len(parts), 0, -1)]
