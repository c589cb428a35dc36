"""The data of one training: batches, validation split and preview sample."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from segbench.arrays.batches import PlainBatches, TrainBatches, on_device
from segbench.arrays.store import Arrays, Header, open_arrays, read_header
from segbench.arrays.transforms import augment_sample, load_pipeline
from segbench.devices import ResolvedHardware
from segbench.errors import InputError
from segbench.images import IGNORE
from segbench.params import Params
from segbench.training.oversampling import classes_held, repeat_factors


@dataclass(frozen=True)
class TrainingData:
    """The data that a training reads.

    Attributes:
        header: of the packed dataset.
        batches: to train on.
        val: to validate on after each epoch.
        held_out: the validation split on disk.
        preview_index: validation sample whose predictions are recorded after each epoch.
        num_ignored: training images that are left out, since all their pixels are ignored.
    """

    header: Header
    batches: TrainBatches
    val: PlainBatches
    held_out: Arrays
    preview_index: int
    num_ignored: int


def open_data(
    params: Params, arrays: Path, fold: int, seed: int, resolved: ResolvedHardware, fabric: Fabric
) -> TrainingData:
    """Open the training and the validation split of a fold; the test split is not opened.

    Args:
        params: all of them.
        arrays: folder that the augment stage wrote.
        fold, seed: which repetition.
        resolved: the hardware.
        fabric: launched.

    Raises:
        InputError: if all pixels of all training images are ignored.
    """
    folder = arrays / f"fold{fold}"
    train_split, held_out = open_arrays(folder / "train"), open_arrays(folder / "val")
    pipeline = load_pipeline(arrays / "pipeline.yaml")
    counted = _counted(train_split)
    if not len(counted):
        raise InputError(
            f"{folder / 'train'}: all pixels of all images are ignored, so nothing can be learnt; "
            "check dataset.mask, or what it marks as 255"
        )
    repeats, header = None, read_header(arrays)
    if params.train.oversample is not None:
        held = classes_held(train_split, len(header.dataset.classes))
        repeats = repeat_factors(held[counted], params.train.oversample)
    online, gib = params.augment.online, params.hardware.resident_gib
    resident = train_split if online else on_device(train_split, fabric.device, gib)
    on_host = resident is train_split
    batches = TrainBatches(
        resident,
        params.train.batch_size,
        partial(augment_sample, pipeline) if online else None,
        seed,
        params.train.steps_per_epoch,
        resolved.workers if on_host else 0,
        fabric.global_rank,
        fabric.world_size,
        pinned=resolved.device == "cuda" and on_host,
        rows=counted,
        repeats=repeats,
    )
    val = PlainBatches(on_device(held_out, fabric.device, gib), params.train.batch_size)
    num_ignored = len(train_split.masks) - len(counted)
    return TrainingData(header, batches, val, held_out, _preview_index(held_out), num_ignored)


def class_pixels(arrays: Arrays, num_classes: int) -> NDArray[np.int64]:
    """(K,): pixels of each class in all masks together."""
    counts = np.zeros(256, np.int64)
    for mask in arrays.masks:
        counts += np.bincount(mask.ravel(), minlength=256)
    arrays.drop_page_cache()
    return counts[:num_classes]


def _counted(arrays: Arrays) -> NDArray[np.int64]:
    """Indices of the samples with a pixel that is not ignored."""
    corners = np.asarray(arrays.masks[:, 0, 0])  # mostly counted, so that few masks are read whole
    ignored = [at for at in np.flatnonzero(corners == IGNORE) if (arrays.masks[at] == IGNORE).all()]
    arrays.drop_page_cache()
    return np.delete(np.arange(len(corners)), ignored)


def check_data(params: Params, header: Header, resolved: ResolvedHardware) -> None:
    """Raise InputError for images or devices that contradict the params."""
    if header.channels not in (1, params.model.in_channels):
        raise InputError(
            f"model.in_channels: {params.model.in_channels}, but the images of "
            f"{header.dataset.name} have {header.channels} channels; set {header.channels}"
        )
    if params.train.batch_size % resolved.devices:
        raise InputError(
            f"train.batch_size: {params.train.batch_size} cannot be divided among "
            f"{resolved.devices} devices; set a multiple of that"
        )


def _preview_index(arrays: Arrays) -> int:
    """Index of the first sample with foreground from the middle on; the middle if none has any."""
    middle = len(arrays.masks) // 2
    for index in (*range(middle, len(arrays.masks)), *range(middle)):
        if not np.isin(arrays.masks[index], (0, IGNORE)).all():
            return index
    return middle
