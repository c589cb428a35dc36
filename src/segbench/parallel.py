"""Work on many samples by all cores, in order, with little in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import cv2
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

# Enough that no thread waits for the slowest one, few enough that results do not pile up.
WAITING_PER_THREAD = 8


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    description: str,
    total: int | None,
    overlap: bool = True,
) -> Iterator[Result]:
    """Yield `work(item)` for every item, in their order, under a progress bar.

    Threads, since decoding, encoding and resizing leave Python's lock; OpenCV's own are turned off
    meanwhile, so that there is one thread a core. The first exception ends the work.

    Args:
        work: what is done with an item.
        items: are taken one after another.
        description: of the bar.
        total: number of items, if it is known.
        overlap: work goes on while items are taken; False where making them takes all cores itself,
            and would wait at every turn for the one that another thread has just got.
    """
    most = WAITING_PER_THREAD * num_cores()
    at_a_time, may_wait = (1, most) if overlap else (most, 0)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(num_cores())
    waiting: deque[Future[Result]] = deque()
    try:
        with tqdm(total=total, desc=description, unit="image", disable=None) as bar:
            remaining = iter(items)
            while taken := list(islice(remaining, at_a_time)):
                waiting.extend(pool.submit(work, item) for item in taken)
                while len(waiting) > may_wait:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)
