"""A map over many samples by threads: in order, and with bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import cv2

from segbench.progress import ProgressBar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Enough that no thread idles behind the slowest item, few enough that results do not pile up.
WAITING_PER_THREAD = 8
CORES = "SEGBENCH_CORES"
"""Variable with the number of cores that a job has."""


def num_cores() -> int:
    """Cores that this process may use: its share, where several jobs run side by side."""
    if share := os.environ.get(CORES):
        return int(share)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    description: str,
    total: int | None,
    overlap: bool = True,
    most: int | None = None,
) -> Iterator[Result]:
    """Yield `work(item)` for every item, in their order, and report the progress.

    Threads suffice, since decoding, encoding and resizing release the GIL. OpenCV's own are turned
    off meanwhile, so that there is one thread per core. The first exception ends the map.

    Args:
        work: the function to map; it runs in several threads at once.
        items: taken one after another, in this thread.
        description: label of the progress bar.
        total: number of items, None if it is unknown.
        overlap: work while items are taken. False where making an item takes all cores itself and
            would compete with the work for them.
        most: items that are held at a time, if they are large; at least one for each core.
    """
    enough = WAITING_PER_THREAD * num_cores()
    most = enough if most is None else min(enough, max(most, num_cores()))
    at_a_time, may_wait = (1, most) if overlap else (most, 0)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(num_cores())
    waiting: deque[Future[Result]] = deque()
    try:
        with ProgressBar(description, total) as bar:
            remaining = iter(items)
            while taken := list(islice(remaining, at_a_time)):
                waiting.extend(pool.submit(work, item) for item in taken)
                taken.clear()  # else these would be held until the next ones are made
                while len(waiting) > may_wait:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)
