"""How much memory jobs take, by what they did take."""

from collections import defaultdict
from contextlib import suppress

import psutil

LEFT = 0.05
"""Share of the machine's memory that stays free."""


class Memory:
    """How much memory jobs of each kind take.

    Attributes:
        most: bytes that a job has held so far, by kind.
    """

    def __init__(self) -> None:
        self.most: defaultdict[str, int] = defaultdict(int)

    def look(self, kind: str, process: int) -> None:
        """Note what a job's processes hold now.

        Args:
            kind: of the job.
            process: the first of them.
        """
        with suppress(psutil.Error):
            first = psutil.Process(process)
            family = [first, *first.children(recursive=True)]
            held = sum(_held(one) for one in family)
            self.most[kind] = max(self.most[kind], held)

    def suffices(self, kind: str) -> bool:
        """Whether what is free holds another job, as far as that is known."""
        memory = psutil.virtual_memory()
        return bool(memory.available - LEFT * memory.total >= self.most[kind])


def _held(process: psutil.Process) -> int:
    """Bytes that would be free without it: not what it shares."""
    with suppress(psutil.Error):
        return int(process.memory_full_info().uss)
    return 0
