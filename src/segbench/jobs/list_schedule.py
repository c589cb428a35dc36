"""List scheduling: which stage would run when and where, by the rule of `Schedule`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import Protocol

import networkx as nx

from segbench.jobs.pipeline import Stage


@dataclass(frozen=True)
class Span:
    """When a stage runs, in seconds from the start, and where."""

    stage: Stage
    place: int
    start: float
    end: float


class Places(Protocol):
    """Where stages run, one at a time in each."""

    @property
    def number(self) -> int:
        """Of places."""

    def accepts(self, stage: Stage, place: int) -> bool:
        """Whether a stage may run there."""

    def seconds(self, stage: Stage, place: int) -> float:
        """What a stage would take there."""

    def take(self, stage: Stage, place: int) -> None:
        """Note that it runs there."""


@dataclass(frozen=True)
class Slots:
    """Places that are alike.

    Args:
        number: of them.
        each: seconds of each stage, by name.
    """

    number: int
    each: Mapping[str, float]

    def accepts(self, stage: Stage, place: int) -> bool:
        """Any stage may run anywhere."""
        return True

    def seconds(self, stage: Stage, place: int) -> float:
        """What a stage takes, anywhere."""
        return self.each[stage.name]

    def take(self, stage: Stage, place: int) -> None:
        """It leaves nothing that another would find."""


def lay_out(
    stages: Sequence[Stage], places: Places, running_for: Mapping[str, float] | None = None
) -> list[Span]:
    """Run stages on paper: one starts as soon as it may, on the free place where it ends first.

    Args:
        stages: what they need that is none of them is done.
        places: where they run.
        running_for: seconds for which stages that run already will still do so, by name.

    Returns:
        By start.
    """
    by_name = {stage.name: stage for stage in stages}
    graph = TopologicalSorter({stage.name: stage.needs & by_name.keys() for stage in stages})
    graph.prepare()
    spans: list[Span] = []
    free, now = list(range(places.number)), 0.0
    ready: dict[str, Stage] = {}
    ends: list[tuple[float, int]] = []  # and which span
    running: dict[int, Stage] = {}

    def start(stage: Stage, place: int, seconds: float) -> None:
        heappush(ends, (now + seconds, len(spans)))
        running[len(spans)] = stage
        spans.append(Span(stage, place, now, now + seconds))
        free.remove(place)

    for name, left in (running_for or {}).items():
        start(by_name[name], free[0], left)
    while graph.is_active():
        new = graph.get_ready()
        ready |= {name: by_name[name] for name in new if name not in (running_for or {})}
        # What must be alone comes first where nothing runs, and else when that is so again.
        for stage in sorted(ready.values(), key=lambda stage: stage.is_alone, reverse=True):
            if not free:
                break
            open_to_it = [place for place in sorted(free) if places.accepts(stage, place)]
            if open_to_it and stage.fits_beside(running.values()):
                place = min(open_to_it, key=lambda one: places.seconds(stage, one))
                start(stage, place, places.seconds(stage, place))
                places.take(stage, place)
                del ready[stage.name]
        now, which = heappop(ends)
        free.append(spans[which].place)
        graph.done(running.pop(which).name)
    return spans


def critical_path(stages: Sequence[Stage], seconds: Mapping[str, float]) -> list[str]:
    """The chain of stages that takes longest, on however many places.

    Args:
        stages: each needs some of the others.
        seconds: of each, by name.
    """
    graph = nx.DiGraph()
    for stage in stages:
        for need in stage.needs or {""}:
            graph.add_edge(need, stage.name, seconds=seconds[stage.name])
    return list(nx.dag_longest_path(graph, weight="seconds"))[1:]
