"""Batches: packed samples, varied and stacked ahead of the network by a thread."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.arrays import Arrays
from segbench.samples import Pixels

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) uint8, channels last in memory; masks (N, H, W) uint8."""

Vary = Callable[[Pixels, Pixels, tuple[int, ...]], tuple[Pixels, Pixels]]
"""(image, mask, key) to a variation of them that depends on the key only."""


class TrainBatches:
    """A training split in a new order and with new variations each epoch.

    Order and variations are functions of (seed, epoch, sample). A batch is made by one thread
    while the network works on the one before; OpenCV and torch both let go of the interpreter.

    Args:
        arrays: of the training split.
        batch_size: a last, smaller batch is left out, unless it is the only one.
        vary: draws a variation of a sample; None leaves samples as they are.
        seed: of the run.
        epoch: asked at the start of each pass for the number of the epoch.
        num_steps: batches in an epoch, which may go through the split more than once, or through a
            part of it; None: as many whole batches as fit into it.
    """

    def __init__(
        self,
        arrays: Arrays,
        batch_size: int,
        vary: Vary | None,
        seed: int,
        epoch: Callable[[], int],
        num_steps: int | None = None,
    ) -> None:
        self.arrays = arrays
        self.batch_size = min(batch_size, len(arrays.images))
        self.vary = vary
        self.seed = seed
        self.epoch = epoch
        self.num_steps = num_steps or len(arrays.images) // self.batch_size

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch()
        rng = np.random.default_rng([self.seed, epoch])
        count, needed = len(self.arrays.images), len(self) * self.batch_size
        passes = [rng.permutation(count) for _ in range(-(-needed // count))]
        order = np.concatenate(passes)[:needed]
        with ThreadPoolExecutor(1, "batches") as thread:
            waiting = None
            for start in range(0, needed, self.batch_size):
                made = thread.submit(self._make, order, start, epoch)
                if waiting is not None:
                    yield waiting.result()
                waiting = made
            assert waiting is not None
            yield waiting.result()

    def _make(self, order: NDArray[np.int64], start: int, epoch: int) -> Batch:
        indices = order[start : start + self.batch_size]
        images, masks = self.arrays.images[indices], self.arrays.masks[indices]
        if self.vary is not None:
            for at, index in enumerate(indices):
                key: tuple[int, ...] = (self.seed, epoch, int(index))
                if (again := (start + at) // len(self.arrays.images)) > 0:
                    key = (*key, again)  # another variation each time round
                images[at], masks[at] = self.vary(images[at], masks[at], key)
        return to_batch(images, masks)


class PlainBatches:
    """A split in its own order, as it is."""

    def __init__(self, arrays: Arrays, batch_size: int) -> None:
        self.arrays = arrays
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.arrays.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.arrays.images), self.batch_size):
            part = slice(start, start + self.batch_size)
            # Copies, since torch takes no read-only memory.
            yield to_batch(np.array(self.arrays.images[part]), np.array(self.arrays.masks[part]))


def to_batch(images: Pixels, masks: Pixels) -> Batch:
    """Wrap (N, H, W, C) images and (N, H, W) masks as a batch, without a copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(masks)
