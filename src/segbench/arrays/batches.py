"""Batches of packed samples, augmented and stacked, optionally by worker processes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segbench.arrays.order import EpochOrder
from segbench.arrays.store import Arrays
from segbench.images import Pixels

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) uint8, channels last in memory; masks (N, H, W) uint8."""

AugmentSample = Callable[[Pixels, Pixels, tuple[int, ...]], tuple[Pixels, Pixels]]
"""Augments (image, mask, key); the random choices depend only on the key."""

Step = tuple[int, int]
"""Index of an epoch, and of a step in it."""


class TrainBatches:
    """A training split, reshuffled and augmented anew in each epoch.

    Order and augmentation are functions of (seed, epoch, sample), so they do not depend on the
    number of workers or processes, nor on the step at which an epoch is resumed.

    Args:
        arrays: of the training split.
        batch_size: over all processes; a smaller last batch is dropped, unless it is the only one.
        augment_sample: augments a sample; None: no augmentation.
        seed: of the run.
        num_steps: batches per epoch, which may cover the split several times or in part; None: one
            pass, in whole batches.
        workers: processes that prepare batches; 0: prepare them on demand in this process.
        rank: index of this process.
        world_size: processes that share each batch.
        pinned: whether to use pinned memory, which a GPU can read while it computes.
        rows: indices of the samples to train on; None: all.
        repeats: how often each of `rows` comes in a pass, on average; None: once.
    """

    def __init__(
        self,
        arrays: Arrays,
        batch_size: int,
        augment_sample: AugmentSample | None,
        seed: int,
        num_steps: int | None = None,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pinned: bool = False,
        rows: NDArray[np.int64] | None = None,
        repeats: NDArray[np.float64] | None = None,
    ) -> None:
        rows = np.arange(len(arrays.images)) if rows is None else rows
        repeats = np.ones(len(rows)) if repeats is None else repeats
        num_images = round(repeats.sum())
        whole = min(batch_size, num_images)
        self.batch_size = whole // world_size * world_size
        self.seed = seed
        self.num_steps = num_steps or num_images // self.batch_size
        self._samples = arrays.samples
        order = EpochOrder(rows, repeats, seed, self.num_steps * self.batch_size)
        self._dataset = _BatchDataset(
            arrays, self.batch_size, augment_sample, order, rank, world_size
        )
        self._steps: list[Step] = []
        self._loader: DataLoader[Batch] = DataLoader(
            self._dataset,
            batch_size=None,  # the dataset returns whole batches
            sampler=self._steps,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pinned,
        )

    def __len__(self) -> int:
        return self.num_steps

    @property
    def num_images(self) -> int:
        """Images that an epoch goes through, those that come again included."""
        return self.num_steps * self.batch_size

    def of(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of an epoch, starting at a step."""
        # Change the list in place: a loader with persistent workers keeps its sampler.
        self._steps[:] = [(epoch, step) for step in range(start, self.num_steps)]
        return iter(self._loader)

    def ids(self, epoch: int, step: int) -> list[str]:
        """Ids of the samples in the batch of a step, over all processes."""
        indices, _ = self._dataset.order.of(epoch)
        batch = indices[step * self.batch_size :][: self.batch_size]
        return [str(id) for id in self._samples["id"].iloc[batch]]


class _BatchDataset(Dataset[Batch]):
    """Whole batches by epoch and step, as prepared in a worker."""

    def __init__(
        self,
        arrays: Arrays,
        batch_size: int,
        augment_sample: AugmentSample | None,
        order: EpochOrder,
        rank: int,
        world_size: int,
    ) -> None:
        self.arrays = arrays
        self.batch_size = batch_size
        self.augment_sample = augment_sample
        self.order = order
        self.rank = rank
        self.world_size = world_size

    def __getitem__(self, step: Step) -> Batch:
        epoch, number = step
        indices, again = (
            part[number * self.batch_size :][: self.batch_size][self.rank :: self.world_size]
            for part in self.order.of(epoch)
        )
        images, masks = _take(self.arrays, indices)
        if self.augment_sample is not None:
            for at, (index, times) in enumerate(zip(indices.tolist(), again.tolist(), strict=True)):
                key: tuple[int, ...] = (self.order.seed, epoch, index)
                if times:
                    key = (*key, times)  # augmented differently each time
                images[at], masks[at] = self.augment_sample(images[at], masks[at], key)
        self.arrays.drop_page_cache()
        return to_batch(images, masks)


def _take(arrays: Arrays, indices: NDArray[np.int64]) -> tuple[Any, Any]:
    """Images and masks at these indices."""
    where: Any = indices
    if isinstance(arrays.images, Tensor) and arrays.images.is_cuda:
        # By way of pinned memory, or the host would wait for all that the device still has to do.
        where = torch.from_numpy(indices).pin_memory().to(arrays.images.device, non_blocking=True)
    return arrays.images[where], arrays.masks[where]


class PlainBatches:
    """A split in its stored order, without augmentation."""

    def __init__(self, arrays: Arrays, batch_size: int) -> None:
        self.arrays = arrays
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.arrays.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for _, batch in self.share(0, 1))

    def share(self, rank: int, world_size: int) -> Iterator[tuple[int, Batch]]:
        """Batches with their indices: every `world_size`-th, starting at `rank`."""
        for number in range(rank, len(self), world_size):
            part = slice(number * self.batch_size, (number + 1) * self.batch_size)
            indices = np.arange(len(self.arrays.masks))[part]
            yield number, to_batch(*_take(self.arrays, indices))
            self.arrays.drop_page_cache()


def to_batch(images: Pixels | Tensor, masks: Pixels | Tensor) -> Batch:
    """Wrap images (N, H, W, C) and masks (N, H, W) as a batch, without copying."""
    return torch.as_tensor(images).permute(0, 3, 1, 2), torch.as_tensor(masks)


def prefetch_to_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Move batches to a device; on a GPU each is copied while the previous one is in use."""
    if device.type != "cuda":
        for images, masks in batches:
            yield images.to(device), masks.to(device)
        return
    copying = _copying_stream(device)
    coming: tuple[Batch, torch.cuda.Event] | None = None
    for batch in chain(batches, [None]):
        here = coming
        if batch is not None:
            with torch.cuda.stream(copying):
                images, masks = (part.to(device, non_blocking=True) for part in batch)
                coming = (images, masks), copying.record_event()
        if here is not None:
            (images, masks), copied = here
            computing = torch.cuda.current_stream(device)
            computing.wait_event(copied)
            for part in (images, masks):
                part.record_stream(computing)  # else its memory could be reused too early
            yield images, masks


@lru_cache
def _copying_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all epochs, as each stream caches memory of its own."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def on_device(arrays: Arrays, device: torch.device, most_gib: float) -> Arrays:
    """Keep arrays in GPU memory if they take at most `most_gib`."""
    size = sum(part.size for part in (arrays.images, arrays.masks))
    if device.type == "cpu" or size > most_gib * 2**30:
        return arrays
    return as_tensors(arrays, device)


def as_tensors(arrays: Arrays, device: torch.device) -> Arrays:
    """Copy arrays to a device, so that batches are sliced there."""
    tensors: Any = [
        torch.tensor(np.array(part), device=device) for part in (arrays.images, arrays.masks)
    ]
    return replace(arrays, images=tensors[0], masks=tensors[1])
