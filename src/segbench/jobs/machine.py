"""This machine as a place for stages: slots, and memory."""

from collections.abc import Callable, Sequence

from segbench.jobs.memory import Memory
from segbench.jobs.pipeline import Pipeline, Stage
from segbench.jobs.process import Process
from segbench.jobs.slots import Slot


class Machine:
    """Runs stages in slots of this machine; one that must be alone waits until nothing runs here.

    Args:
        pipeline: their books.
        slots: shares of the machine; as many stages run at a time.
        memory: what jobs are known to take of it.
        beside: whether it takes stages that run beside others; else these run elsewhere.
        before: called before a stage starts.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        slots: Sequence[Slot],
        memory: Memory,
        beside: bool = True,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._pipeline, self._free, self._memory = pipeline, list(slots), memory
        self._beside, self._before = beside, before
        self._running: dict[str, tuple[Stage, Process, Slot]] = {}

    def accepts(self, stage: Stage) -> bool:
        """Whether a stage may start here now."""
        running = [other for other, *_ in self._running.values()]
        if not self._free or (stage.is_beside and not self._beside):
            return False
        return stage.fits_beside(running) and (not running or self._memory.suffices(stage.kind))

    def start(
        self, stage: Stage, hear: Callable[[str], None], ended: Callable[[], None]
    ) -> Process:
        """Start a stage that has begun; see `schedule.Place`."""
        self._before()
        slot = self._free.pop(0)
        own, says = (slot.environment, slot.says) if stage.is_beside else ({}, "")
        process = Process(self._pipeline.command(stage.name), own, hear, ended, says)
        self._running[stage.name] = stage, process, slot
        return process

    def look(self) -> None:
        """See how much memory the jobs hold."""
        for stage, process, _ in self._running.values():
            self._memory.look(stage.kind, process.id)

    def leave(self, stage: Stage) -> None:
        """A stage that ran here has ended."""
        *_, slot = self._running.pop(stage.name)
        self._free.append(slot)
