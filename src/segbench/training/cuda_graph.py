"""Forward and backward of a step, captured once as a CUDA graph and replayed.

A step of a small network is thousands of short kernels, and launching them takes the host longer
than the GPU takes to run them. A graph launches all of them at once; they are the same kernels in
the same order, so no bit changes.
"""

import gc
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from segbench.arrays.batches import Batch

Work = Callable[[Tensor, Tensor], Tensor]
"""Computes the gradients of images and masks, and returns the loss."""

EAGER_STEPS = 3
"""Steps before the capture: libraries set themselves up in the first, and choose their kernels."""


@dataclass(frozen=True)
class _Recorded:
    """A graph, the batch that it reads, and the loss that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor


class CapturedStep:
    """Computes gradients of batches of one shape; by a CUDA graph after the first few.

    Args:
        forget: sets all gradients to None.

    Attributes:
        works: whether `work` can be captured; None: not known yet. It cannot if the host waits for
            the device in it, as it does for losses that pick pixels.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        self.works: bool | None = None
        self._forget = forget
        self._done = 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._recorded: _Recorded | None = None

    def __call__(self, work: Work, batch: Batch) -> Tensor:
        """Compute the gradients of a batch by `work`, the same in each call; return its loss."""
        self._done += 1
        if self._done < EAGER_STEPS or self.works is False:
            return self._eager(work, batch)
        if self.works is None:
            return self._watched(work, batch)
        if self._recorded is None:
            self._recorded = self._record(work, batch)
        for static, part in zip(self._recorded.batch, batch, strict=True):
            static.copy_(part)
        self._recorded.graph.replay()
        return self._recorded.loss.clone()  # the next step overwrites it

    def _eager(self, work: Work, batch: Batch) -> Tensor:
        """On the stream of the capture, where all that is lazily made must be made."""
        self._forget()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss = work(*batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss

    def _watched(self, work: Work, batch: Batch) -> Tensor:
        """An eager step that notices whether the host waits for the device in it."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                loss = self._eager(work, batch)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        self.works = not any("synchronizing CUDA operation" in str(one.message) for one in said)
        if not self.works:
            print(
                "warning: hardware.cuda_graphs: this loss makes the host wait for the GPU in each "
                "step, so steps are not replayed as graphs",
                file=sys.stderr,
            )
        return loss

    def _record(self, work: Work, batch: Batch) -> _Recorded:
        """Record the step's kernels, without running them."""
        self._forget()  # so that gradients lie in the graph's memory, and replays overwrite them
        static = (torch.empty_like(batch[0]), torch.empty_like(batch[1]))
        graph = torch.cuda.CUDAGraph()
        # A capture breaks if the garbage collector frees another graph meanwhile, or, unless it is
        # told to look at this thread only, if another thread pins memory for the next batch.
        gc.collect()
        gc.disable()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                loss = work(*static)
        finally:
            gc.enable()
        return _Recorded(graph, static, loss)
