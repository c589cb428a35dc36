"""Freed memory goes back to the system only once a process has grown."""

from types import SimpleNamespace

import pytest

from segbench.evaluation import predict


def test_memory_goes_back_once_a_process_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    held, returned = iter([1000, 1040, 1060, 900, 1051]), []
    heap = predict._Heap()
    monkeypatch.setattr(
        heap, "_process", SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=next(held)))
    )
    monkeypatch.setattr(
        predict.ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=returned.append)
    )
    times = []
    for _ in range(5):
        heap.look()
        times.append(len(returned))
    assert times == [0, 0, 1, 1, 2]
