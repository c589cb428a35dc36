"""Stages that do not need each other run side by side, each where there is a place for it."""

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from operator import attrgetter
from types import FrameType
from typing import Protocol

import psutil
from dvc.exceptions import DvcException

from segbench.jobs.pipeline import Pipeline, Stage
from segbench.jobs.view import View

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_EVERY_S = 2.0
NOTE_EVERY_S = 60.0
PAUSE_S = 1.0
"""So soon what is paused goes on at the earliest."""
WAKE = ""
"""In place of a stage's name: none has ended."""
PATIENCE = 30
"""Looks at jobs that were told to stop, until they are killed."""


class Job(Protocol):
    """A stage that runs."""

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""

    @property
    def why(self) -> str:
        """Why it failed."""

    @property
    def where(self) -> str:
        """What it has of which machine, in words; empty: all of this one."""

    @property
    def made(self) -> str | None:
        """Its entry in the run cache, if it ran in another clone."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""


class Place(Protocol):
    """Where stages run."""

    def accepts(self, stage: Stage) -> bool:
        """Whether a stage may start there now."""

    def start(self, stage: Stage, hear: Callable[[str], None], ended: Callable[[], None]) -> Job:
        """Start a stage that has begun here.

        Args:
            stage: to start.
            hear: gets each line that it says, in another thread.
            ended: called once it has ended, in another thread.

        Raises:
            DvcException: if it cannot start.
        """

    def look(self) -> None:
        """Called now and then."""

    def leave(self, stage: Stage) -> None:
        """A stage that ran there has ended."""


@dataclass
class Outcome:
    """What became of the stages, by name.

    Attributes:
        done: those that ran.
        kept: those that need not run, or whose outputs the run cache had.
        failed: why each failed.
        left_out: those that need a failed one, or that were not begun before the end.
        stopped_by: the signal that ended all, 0: none.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    stopped_by: int = 0


class Schedule:
    """Runs all stages of a pipeline that are out of date.

    A run that fails ends only what needs it; where data are made or checked, nothing begins after.

    Args:
        pipeline: their books.
        places: where they run; a stage goes to the first that accepts it.
        view: is told what happens.
    """

    def __init__(self, pipeline: Pipeline, places: Sequence[Place], view: View) -> None:
        self._pipeline, self._view, self._places = pipeline, view, places
        self._graph = TopologicalSorter({stage.name: stage.needs for stage in pipeline.stages})
        self._ready: list[Stage] = []
        self._running: dict[str, tuple[Stage, Job, Place]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._outcome = Outcome()
        self._looks, self._look_at = 0, 0.0
        self._is_paused, self._is_ending = False, False
        self._note_at = 0.0

    def run(self) -> Outcome:
        """Run them; returns when none runs any more."""
        stages = {stage.name: stage for stage in self._pipeline.stages}
        self._pipeline.keeps_waiting = self._keeps_waiting
        self._graph.prepare()
        handlers = {**dict.fromkeys(STOP, self._stop), signal.SIGTSTP: self._pause}
        with _heard(handlers):
            try:
                self._loop(stages)
            finally:
                self._send(signal.SIGKILL)  # after a defect; else none is left
        outcome = self._outcome
        known = {*outcome.done, *outcome.kept, *outcome.failed}
        outcome.left_out = [name for name in stages if name not in known]
        return outcome

    def _loop(self, stages: Mapping[str, Stage]) -> None:
        while True:
            self._ready += [stages[name] for name in self._graph.get_ready()]
            if self._is_paused:
                self._rest()
            elif found := self._next():
                self._ready.remove(found[0])
                self._start(*found)
            elif self._running or (self._ready and not self._is_ending):
                self._wait()
            else:
                return

    def _next(self) -> tuple[Stage, Place] | None:
        """A stage that may start now, and where."""
        if self._is_ending:
            return None
        # Data are checked before hours go into them. What must be alone comes first where nothing
        # runs, and else when that is so again.
        ready = sorted(self._ready, key=attrgetter("is_of_all", "is_alone"), reverse=True)
        found = ((stage, place) for place in self._places for stage in ready)
        return next((both for both in found if both[1].accepts(both[0])), None)

    def _start(self, stage: Stage, place: Place) -> None:
        try:
            if not self._pipeline.begin(stage.name):
                self._outcome.kept.append(stage.name)
                self._view.kept(stage)
                self._graph.done(stage.name)
                return
            self._view.starts(stage)
            job = place.start(
                stage,
                lambda line: self._view.heard(stage, line),
                lambda: self._ended.put(stage.name),
            )
        except DvcException as error:
            self._fail(stage, str(error))
            return
        self._running[stage.name] = stage, job, place
        self._view.started(stage, job.where)
        if self._outcome.stopped_by:  # while it was being started, and nobody told it
            job.send(signal.SIGINT)

    def _wait(self) -> None:
        """Until a stage ends, or for a moment."""
        ended = []
        with suppress(queue.Empty):
            ended.append(self._ended.get(timeout=max(0.0, self._look_at - time.monotonic())))
            while True:
                ended.append(self._ended.get_nowait())
        if time.monotonic() >= self._look_at:
            self._look()
        ended = [name for name in ended if name != WAKE]
        failed, made, stages = dict[str, str](), dict[str, str | None](), []
        for name in ended:
            stage, job, place = self._running.pop(name)
            place.leave(stage)
            stages.append(stage)
            if job.status:
                failed[name] = job.why
                self._pipeline.give_up(name)
            else:
                made[name] = job.made
        if made:
            failed |= self._pipeline.end(made)
        for stage in stages:
            if stage.name in failed:
                self._fail(stage, failed[stage.name])
            else:
                self._outcome.done.append(stage.name)
                self._view.done(stage)
                self._graph.done(stage.name)

    def _keeps_waiting(self) -> bool:
        """While another DVC, as one that pushes, has the lock: jobs run on."""
        if time.monotonic() >= self._note_at:
            self._view.note("waits for another DVC that works in this folder")
            self._note_at = time.monotonic() + NOTE_EVERY_S
        return not self._outcome.stopped_by

    def _fail(self, stage: Stage, why: str) -> None:
        self._outcome.failed[stage.name] = why
        self._view.failed(stage, why)
        self._is_ending |= stage.is_of_all

    def _look(self) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY_S
        for place in self._places:
            place.look()
        self._view.look(len(self._ready))
        if self._outcome.stopped_by:
            self._looks += 1
            if self._looks >= PATIENCE:
                self._send(signal.SIGKILL)

    def _stop(self, number: int) -> None:
        """End all jobs; a second signal changes nothing, since they write what they have."""
        self._outcome.stopped_by = self._outcome.stopped_by or number
        self._is_ending = True
        self._send(signal.SIGINT)

    def _pause(self, _: int) -> None:
        self._is_paused = True
        self._ended.put(WAKE)

    def _rest(self) -> None:
        """Stand still with all jobs while the process that began this one is stopped, as by Ctrl-Z.

        No SIGCONT is waited for: one that comes soon may be heard before the signal to stop.
        """
        with self._view.hidden():
            self._send(signal.SIGSTOP)
            until = time.monotonic() + PAUSE_S
            while not self._outcome.stopped_by and (
                _is_stopped(os.getppid()) or time.monotonic() < until
            ):
                time.sleep(PAUSE_S / 10)
            self._is_paused = False
            self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        for _, job, _ in self._running.values():
            job.send(number)


def _is_stopped(process: int) -> bool:
    with suppress(psutil.Error):
        return bool(psutil.Process(process).status() == psutil.STATUS_STOPPED)
    return False


@contextmanager
def _heard(handlers: Mapping[signal.Signals, Callable[[int], None]]) -> Iterator[None]:
    """In which signals call functions."""

    def handle(number: int, _: FrameType | None) -> None:
        handlers[signal.Signals(number)](number)

    former = {number: signal.signal(number, handle) for number in handlers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
