"""Work by threads keeps its order, and lets be what is computing."""

import time
from collections.abc import Iterator
from threading import Lock

import pytest

from segbench.parallel import WAITING_PER_THREAD, num_cores, thread_map

MANY = 3 * WAITING_PER_THREAD * num_cores()


@pytest.mark.parametrize("overlap", [True, False])
def test_results_come_in_order(overlap: bool) -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return -item

    assert [*thread_map(work, iter(range(MANY)), "test", None, overlap)] == [*range(0, -MANY, -1)]


@pytest.mark.parametrize("overlap", [True, False])
def test_the_first_error_ends_the_work(overlap: bool) -> None:
    def work(item: int) -> float:
        return 1 / (5 - item)

    with pytest.raises(ZeroDivisionError):
        list(thread_map(work, range(MANY), "test", None, overlap))


@pytest.mark.parametrize("overlap", [True, False])
def test_whether_work_goes_on_while_items_are_made(overlap: bool) -> None:
    lock, working, met = Lock(), [0], [False]

    def work(item: int) -> None:
        with lock:
            working[0] += 1
        time.sleep(0.003)
        with lock:
            working[0] -= 1

    def make() -> Iterator[int]:
        for item in range(MANY):
            time.sleep(0.001)
            met[0] |= working[0] > 0
            yield item

    list(thread_map(work, make(), "test", None, overlap))
    assert met[0] == overlap
