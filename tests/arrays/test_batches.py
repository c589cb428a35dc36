"""Batches are a function of (seed, epoch, sample)."""

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segbench.arrays.batches import PlainBatches, TrainBatches, as_tensors, on_device
from segbench.arrays.store import open_arrays
from segbench.arrays.transforms import augment_sample, load_pipeline
from segbench.images import Pixels


def passes(packed: Path, seed: int, epochs: list[int]) -> list[torch.Tensor]:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    pipeline = load_pipeline(packed / "arrays" / "pipeline.yaml")
    batches = TrainBatches(part, 4, partial(augment_sample, pipeline), seed)
    return [torch.cat([images for images, _ in batches.of(epoch)]) for epoch in epochs]


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
        list(TrainBatches(part, 4, spy, 5).of(epoch))
        assert {key[:2] for key in keys} == {(5, epoch)}
        orders.append([key[2] for key in keys])
    assert orders[0] != orders[1]


def test_a_sample_that_comes_again_in_an_epoch_varies_anew(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    count = len(part.images)
    keys: list[tuple[int, ...]] = []

    def spy(image: Pixels, mask: Pixels, key: tuple[int, ...]) -> tuple[Pixels, Pixels]:
        keys.append(key)
        return image, mask

    # Batches that do not divide the split: one of them spans two passes.
    num_steps = -(-3 * count // 5)
    list(TrainBatches(part, 5, spy, 0, num_steps).of(0))
    assert len(set(keys)) == len(keys) == 5 * num_steps
    rounds = [keys[at : at + count] for at in range(0, 3 * count, count)]
    assert all({key[2] for key in own} == {*range(count)} for own in rounds)
    # The first pass is that of an epoch of one pass.
    keys.clear()
    list(TrainBatches(part, count, spy, 0, 1).of(0))
    assert keys == rounds[0]


def test_every_sample_comes_once_an_epoch(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    batches = TrainBatches(part, 5, None, 0)
    images = torch.cat([images for images, _ in batches.of(0)]).permute(0, 2, 3, 1).numpy()
    assert len(images) == len(batches) * 5 == len(part.images) // 5 * 5
    known = {image.tobytes() for image in np.asarray(part.images)}
    seen = [np.ascontiguousarray(image).tobytes() for image in images]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= known


def test_samples_come_as_often_as_their_repeats_say(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    rows, repeats = np.array([1, 4, 7, 9]), np.array([1.0, 2.5, 1.25, 3.0])
    keys: list[tuple[int, ...]] = []

    def spy(image: Pixels, mask: Pixels, key: tuple[int, ...]) -> tuple[Pixels, Pixels]:
        keys.append(key)
        return image, mask

    times = []
    for epoch in range(40):
        keys.clear()
        batches = TrainBatches(part, 1, spy, 5, rows=rows, repeats=repeats)
        list(batches.of(epoch))
        assert len(keys) == batches.num_images == 8
        # The same image comes in another variation each time: none of two passes, nor of one.
        assert len(set(keys)) == len(keys)
        times.append([sum(key[2] == row for key in keys) for row in rows])
        again = TrainBatches(part, 4, spy, 5, rows=rows, repeats=repeats)
        assert [id for step in (0, 1) for id in again.ids(epoch, step)] == [
            str(part.samples["id"][key[2]]) for key in keys
        ]
    found = np.array(times)
    # A pass of eight is now and then cut off, or filled up, by one.
    assert np.abs(found - repeats).max() <= 2
    assert np.abs(found.mean(axis=0) - repeats).max() < 0.2
    assert len({*found[:, 1]}) > 1


def test_workers_may_be_spawned(packed: Path) -> None:
    """As macOS does it: what they get is told where the files lie, not what is in them."""
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    augment_one = partial(augment_sample, load_pipeline(packed / "arrays" / "pipeline.yaml"))
    (before, _), *_ = TrainBatches(part, 4, augment_one, 0, 1).of(0)
    told = pickle.dumps(TrainBatches(part, 4, augment_one, 0, 1)._dataset)
    assert len(told) < part.images.size / 4
    assert torch.equal(pickle.loads(told)[0, 0][0], before)


def test_a_batch_larger_than_the_split_is_the_split(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    ((images, masks),) = list(TrainBatches(part, 1000, None, 0).of(0))
    assert len(images) == len(masks) == len(part.images)


def test_images_are_channels_last_in_memory(packed: Path) -> None:
    part = open_arrays(packed / "arrays" / "fold0" / "val")
    images, masks = next(iter(PlainBatches(part, 3)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.shape[1:] == (3, 64, 64)
    assert masks.shape[1:] == (64, 64)


def epoch_of(packed: Path, **how: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of an epoch that goes through the split more than once."""
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    pipeline = load_pipeline(packed / "arrays" / "pipeline.yaml")
    start = how.pop("start", 0)
    batches = TrainBatches(part, 4, partial(augment_sample, pipeline), 3, num_steps=15, **how)
    return [(images.clone(), masks.clone()) for images, masks in batches.of(2, start)]


def same(ours: list[Any], theirs: list[Any]) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    return all(torch.equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(packed: Path, workers: int) -> None:
    assert same(epoch_of(packed, workers=workers), epoch_of(packed))


def test_an_epoch_can_be_entered_at_any_step(packed: Path) -> None:
    assert same(epoch_of(packed, start=11), epoch_of(packed)[11:])


def test_processes_divide_each_batch(packed: Path) -> None:
    whole = epoch_of(packed)
    shares = [epoch_of(packed, rank=rank, world_size=2) for rank in (0, 1)]
    for at, batch in enumerate(whole):
        for mixed, *halves in zip(batch, *(share[at] for share in shares), strict=True):
            assert torch.equal(mixed[0::2], halves[0])
            assert torch.equal(mixed[1::2], halves[1])


def test_batches_of_arrays_that_stay_on_a_device(packed: Path) -> None:
    """Here on the CPU, as if it were a GPU."""
    part = open_arrays(packed / "arrays" / "fold0" / "train")
    there = as_tensors(part, torch.device("cpu"))
    assert same(list(PlainBatches(there, 3)), list(PlainBatches(part, 3)))
    batches = (TrainBatches(arrays, 4, None, 0) for arrays in (there, part))
    ours, theirs = (list(found.of(1)) for found in batches)
    assert same(ours, theirs)
    assert on_device(part, torch.device("cuda"), 1e-9) is part  # too large
    assert on_device(part, torch.device("cpu"), 1.0) is part


def test_validation_batches_are_dealt_out(packed: Path) -> None:
    batches = PlainBatches(open_arrays(packed / "arrays" / "fold0" / "val"), 2)
    dealt = dict([*batches.share(1, 2), *batches.share(0, 2)])
    assert same([dealt[number] for number in range(len(batches))], list(batches))
