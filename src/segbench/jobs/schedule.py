"""Stages that do not need each other run side by side, each in a slot."""

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from types import FrameType

import psutil
from dvc.exceptions import DvcException

from segbench.jobs.memory import Memory
from segbench.jobs.pipeline import BESIDE, Pipeline, Stage
from segbench.jobs.process import Process
from segbench.jobs.slots import Slot
from segbench.jobs.view import View

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_EVERY_S = 2.0
PAUSE_S = 1.0
"""So soon what is paused goes on at the earliest."""
WAKE = ""
"""In place of a stage's name: none has ended."""
PATIENCE = 30
"""Looks at jobs that were told to stop, until they are killed."""


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
    """Runs all stages of a pipeline that are out of date; one that fails ends only what needs it.

    Args:
        pipeline: their books.
        slots: shares of the machine; as many stages run at a time.
        view: is told what happens.
        memory: what jobs are known to take of it.
    """

    def __init__(
        self, pipeline: Pipeline, slots: Sequence[Slot], view: View, memory: Memory
    ) -> None:
        self._pipeline, self._view, self._free = pipeline, view, list(slots)
        self._graph = TopologicalSorter({stage.name: stage.needs for stage in pipeline.stages})
        self._ready: list[Stage] = []
        self._running: dict[str, tuple[Stage, Process, Slot]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._memory = memory
        self._outcome = Outcome()
        self._looks, self._look_at = 0, 0.0
        self._is_paused = False

    def run(self) -> Outcome:
        """Run them; returns when none runs any more."""
        stages = {stage.name: stage for stage in self._pipeline.stages}
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
            elif stage := self._next():
                self._ready.remove(stage)
                self._start(stage)
            elif self._running:
                self._wait()
            else:
                return

    def _next(self) -> Stage | None:
        """A stage that may start now."""
        running = [stage for stage, *_ in self._running.values()]
        if self._outcome.stopped_by or not self._free:
            return None
        # What must be alone comes first where nothing runs, and else when that is so again.
        for stage in sorted(self._ready, key=lambda stage: stage.is_alone, reverse=True):
            held = not running or self._memory.suffices(stage.kind)
            if stage.fits_beside(running) and held:
                return stage
        return None

    def _start(self, stage: Stage) -> None:
        try:
            command = self._pipeline.begin(stage.name)
        except DvcException as error:
            self._outcome.failed[stage.name] = str(error)
            self._view.failed(stage, str(error))
            return
        if command is None:
            self._outcome.kept.append(stage.name)
            self._view.kept(stage)
            self._graph.done(stage.name)
            return
        slot = self._free.pop(0)
        own = slot.environment if stage.sharing == BESIDE else {}
        self._view.started(stage, slot.says if own else "")
        process = Process(
            command,
            own,
            lambda line: self._view.heard(stage, line),
            lambda: self._ended.put(stage.name),
        )
        self._running[stage.name] = stage, process, slot
        if self._outcome.stopped_by:  # while it was being started, and nobody told it
            process.send(signal.SIGINT)

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
        failed = {}
        for name in ended:
            _, process, slot = self._running.pop(name)
            self._free.append(slot)
            if process.status:
                failed[name] = process.why
                self._pipeline.give_up(name)
        failed |= self._pipeline.end(name for name in ended if name not in failed)
        stages = {stage.name: stage for stage in self._pipeline.stages}
        for name in ended:
            if name in failed:
                self._view.failed(stages[name], failed[name])
            else:
                self._outcome.done.append(name)
                self._view.done(stages[name])
                self._graph.done(name)
        self._outcome.failed |= failed

    def _look(self) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY_S
        for stage, process, _ in self._running.values():
            self._memory.look(stage.kind, process.id)
        self._view.look(len(self._ready))
        if self._outcome.stopped_by:
            self._looks += 1
            if self._looks >= PATIENCE:
                self._send(signal.SIGKILL)

    def _stop(self, number: int) -> None:
        """End all jobs; a second signal changes nothing, since they write what they have."""
        self._outcome.stopped_by = self._outcome.stopped_by or number
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
        for _, process, _ in self._running.values():
            process.send(number)


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
