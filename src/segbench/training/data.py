"""The data of one training: batches, validation split and preview sample."""

from dataclasses import dataclass
from functools import partial
from itertools import product
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
from segbench.labels import LabelScheme
from segbench.params import Params
from segbench.training.oversampling import classes_held, repeat_factors
from segbench.training.shares import kept_rows


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
        rows: of the training split on disk that are trained on.
        num_groups: that these are of.
    """

    header: Header
    batches: TrainBatches
    val: PlainBatches
    held_out: Arrays
    preview_index: int
    num_ignored: int
    rows: NDArray[np.int64]
    num_groups: int


def open_data(
    params: Params,
    candidate: str,
    fold: int,
    seed: int,
    arrays: Path,
    resolved: ResolvedHardware,
    fabric: Fabric,
) -> TrainingData:
    """Open the training and the validation split of a fold; the test split is not opened.

    An epoch has as many steps as with all training groups, whatever share of them is trained on:
    what a smaller share loses is then due to the data, not to fewer steps.

    Args:
        params: all of them.
        candidate: its alias; it may train on a share of the groups.
        fold, seed: which repetition.
        arrays: folder that the augment stage wrote.
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
    header, share = read_header(arrays), params.candidates[candidate].train_share
    scheme = header.dataset.scheme
    kept = kept_rows(train_split.samples, share, fold, seed)
    rows = counted[kept[counted]]
    repeats, length = None, float(len(counted))
    if params.train.oversample is not None:
        held = classes_held(train_split, scheme.num_classes)
        repeats = repeat_factors(held[rows], params.train.oversample, scheme.scored)
        length = repeat_factors(held[counted], params.train.oversample, scheme.scored).sum()
    num_steps = params.train.steps_per_epoch
    if num_steps is None and share < 1:
        num_steps = round(length) // params.train.batch_size
    online, gib = params.augment.online, params.hardware.resident_gib
    resident = train_split if online else on_device(train_split, fabric.device, gib)
    on_host = resident is train_split
    batches = TrainBatches(
        resident,
        params.train.batch_size,
        partial(augment_sample, pipeline) if online else None,
        seed,
        num_steps,
        resolved.workers if on_host else 0,
        fabric.global_rank,
        fabric.world_size,
        pinned=resolved.device == "cuda" and on_host,
        rows=rows,
        repeats=repeats,
    )
    val = PlainBatches(on_device(held_out, fabric.device, gib), params.train.batch_size)
    return TrainingData(
        header=header,
        batches=batches,
        val=val,
        held_out=held_out,
        preview_index=_preview_index(held_out, scheme),
        num_ignored=int(kept.sum()) - len(rows),
        rows=rows,
        num_groups=train_split.samples["group"].iloc[rows].nunique(),
    )


def class_pixels(arrays: Arrays, rows: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """(K,): pixels of each class in the masks of these rows together."""
    counts = np.zeros(256, np.int64)
    for row in rows:
        counts += np.bincount(arrays.masks[row].ravel(), minlength=256)
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


def check_shares(params: Params, candidate: str, fold: int, seed: int, arrays: Path) -> None:
    """Raise InputError if any share of the training groups is too small to train on.

    Of all candidates that are compared and all seeds, so that it is found before any is trained.

    Args:
        params: all of them.
        candidate: its alias.
        fold, seed: which repetition.
        arrays: folder that the augment stage wrote.
    """
    aliases = dict.fromkeys([candidate, *params.comparison.candidates])
    shared = [alias for alias in aliases if params.candidates[alias].train_share < 1]
    if not shared:
        return
    split = open_arrays(arrays / f"fold{fold}" / "train")
    scheme = read_header(arrays).dataset.scheme
    counted, total = _counted(split), split.samples["group"].nunique()
    for alias, each in product(shared, sorted({seed, *params.comparison.seeds})):
        share = params.candidates[alias].train_share
        rows = counted[kept_rows(split.samples, share, fold, each)[counted]]
        groups = split.samples["group"].iloc[rows].nunique()
        where = (
            f"candidates.{alias}.train_share: {share:g} keeps {groups} of {total} training groups "
            f"in fold {fold} with seed {each}"
        )
        if groups == total:
            raise InputError(f"{where}, which is all; lower it, or name smaller groups")
        if len(rows) < params.train.batch_size:
            raise InputError(
                f"{where}, {len(rows)} images, fewer than train.batch_size: "
                f"{params.train.batch_size}; raise the share, or lower the batch size for all"
            )
        if not any(scheme.is_foreground(split.masks[row]).any() for row in rows):
            raise InputError(f"{where}, and no object in them; raise the share")


def _preview_index(arrays: Arrays, scheme: LabelScheme) -> int:
    """Index of the first sample with foreground from the middle on; the middle if none has any."""
    middle = len(arrays.masks) // 2
    for index in (*range(middle, len(arrays.masks)), *range(middle)):
        if scheme.is_foreground(arrays.masks[index]).any():
            return index
    return middle
