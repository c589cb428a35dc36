"""Batches are a function of (seed, epoch, sample)."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from segbench.arrays import open_arrays
from segbench.augmentation import load_pipeline, vary
from segbench.batches import PlainBatches, TrainBatches
from segbench.samples import Pixels


def passes(packed: Path, seed: int, epochs: list[int]) -> list[torch.Tensor]:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    pipeline = load_pipeline(packed / "arrays" / "pipeline.yaml")
    epoch = iter(epochs)
    batches = TrainBatches(part, 4, partial(vary, pipeline), seed, lambda: next(epoch))
    return [torch.cat([images for images, _ in batches]) for _ in epochs]


def test_an_epoch_repeats_whatever_came_before(packed: Path) -> None:
    zero, one, two = passes(packed, 0, [0, 1, 2])
    assert torch.equal(passes(packed, 0, [2])[0], two)
    assert not torch.equal(zero, one)
    assert not torch.equal(passes(packed, 1, [0])[0], zero)


def test_order_and_variations_are_drawn_anew_each_epoch(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    keys: list[tuple[int, ...]] = []

    def spy(image: Pixels, mask: Pixels, key: tuple[int, ...]) -> tuple[Pixels, Pixels]:
        keys.append(key)
        return image, mask

    orders = []
    for epoch in (0, 1):
        keys.clear()
        list(TrainBatches(part, 4, spy, 5, lambda epoch=epoch: epoch))  # type: ignore[misc]
        assert {key[:2] for key in keys} == {(5, epoch)}
        orders.append([key[2] for key in keys])
    assert orders[0] != orders[1]


def test_every_sample_comes_once_an_epoch(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    batches = TrainBatches(part, 5, None, 0, lambda: 0)
    images = torch.cat([images for images, _ in batches]).permute(0, 2, 3, 1).numpy()
    assert len(images) == len(batches) * 5 == len(part.images) // 5 * 5
    known = {image.tobytes() for image in np.asarray(part.images)}
    seen = [np.ascontiguousarray(image).tobytes() for image in images]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= known


def test_a_batch_larger_than_the_split_is_the_split(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    ((images, masks),) = list(TrainBatches(part, 1000, None, 0, lambda: 0))
    assert len(images) == len(masks) == len(part.images)


def test_images_are_channels_last_in_memory(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "val")
    images, masks = next(iter(PlainBatches(part, 3)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.shape[1:] == (3, 64, 64)
    assert masks.shape[1:] == (64, 64)
