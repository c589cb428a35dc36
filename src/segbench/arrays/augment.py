"""The augment stage: splits resized and packed into arrays, and a preview of augmentation."""

import hashlib
import threading
from collections import defaultdict
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.arrays.store import Arrays, ArrayWriter, Header, open_arrays, write_header
from segbench.arrays.transforms import (
    Pipeline,
    augment_sample,
    build_pipeline,
    check_transforms,
    save_pipeline,
)
from segbench.datasets.canonical import read_info, read_samples
from segbench.errors import InputError
from segbench.files import atomic_file, atomic_folder
from segbench.images import Pixels, read_pixels, resize_mask, with_channels
from segbench.labels import LabelScheme
from segbench.parallel import thread_map
from segbench.params.augment import Augment
from segbench.report.drawing import outline, save_image_grid
from segbench.splits.assign import SPLITS, UNUSED, read_split
from segbench.windows import Window, packed_place, tile_windows

# Copies, preview and training use separate random streams of the same seed.
COPIES_STREAM, PREVIEW_STREAM = 1_000_000_007, 1_000_000_009
PREVIEW_VERSIONS = 5


def augment(dataset: Path, split: Path, params: Augment, out: Path, preview: Path) -> str:
    """Pack each split of a canonical dataset, and write the pipeline and a preview sheet.

    `out` receives header.json, pipeline.yaml and fold<k>/<split>/ with images.npy, masks.npy and
    samples.csv. Only training images are augmented. Every image is read once for all folds.

    Args:
        dataset: canonical folder.
        split: the split table.
        params: the section `augment`.
        out: folder of the arrays.
        preview: picture with one row per sample.

    Returns:
        A summary line.

    Raises:
        InputError: for transforms that cannot be used, and a split whose masks lose all objects.
    """
    info = read_info(dataset)
    pipeline = build_pipeline(params)
    table = read_split(split)
    table = table[table["split"] != UNUSED]
    # Keep one channel only if all images are grey.
    channels = int(read_samples(dataset)["channels"].max())
    check_transforms(params, info.scheme, channels)
    digest = hashlib.sha256((dataset / "samples.csv").read_bytes()).hexdigest()
    header = Header(info, params.height, params.width, channels, digest)
    with atomic_folder(out) as partial:
        save_pipeline(pipeline, partial / "pipeline.yaml")
        windows = pack(dataset, table, header, pipeline, params, partial)
        _check_objects(partial, table, params, info.scheme)
        emptied = _emptied_copies(partial, info.scheme) if params.copies else ""
        with atomic_file(preview) as sheet:
            first = open_arrays(partial / "fold0" / "train")
            _write_preview(sheet, pipeline, first, params, info.background)
    sizes = table[table["fold"] == 0].groupby("split").size()
    counts = ", ".join(f"{name} {sizes[name]}" for name in SPLITS)
    folds = table["fold"].nunique()
    return emptied + (
        f"{counts} images"
        + (f" in the first of {folds} folds" if folds > 1 else "")
        + (f", cut into {sum(map(len, windows.values()))} patches" if params.patches else "")
        + f" packed at {params.width}x{params.height}x{channels}"
        + (f", {params.copies} augmented copies of each for training" if params.copies else "")
        + f" in {out}; preview in {preview}"
    )


def pack(
    dataset: Path,
    table: pd.DataFrame,
    header: Header,
    pipeline: Pipeline,
    params: Augment,
    out: Path,
) -> "Windows":
    """Write the header, and the arrays of every fold and split; every image is read once.

    Args:
        dataset: canonical folder.
        table: a row for each sample and fold: id, group, stratum, split, fold.
        header: of the arrays.
        pipeline: that varies copies of training images.
        params: the section `augment`.
        out: folder of the arrays, which exists.

    Returns:
        What each sample was cut into.
    """
    samples = read_samples(dataset).set_index("id")
    sizes = (samples.index, samples["width"], samples["height"])
    windows = {
        id: tile_windows(int(width), int(height), params.patches, id)
        for id, width, height in zip(*sizes, strict=True)
    }
    columns = (samples.index, samples["image"], samples["mask"])
    paths = {
        id: (dataset / image, dataset / mask) for id, image, mask in zip(*columns, strict=True)
    }
    write_header(out, header)
    with ExitStack() as closing:
        places = _open_places(out, header, table, windows, params, closing)
        _pack_images(paths, windows, places, pipeline, header.channels, params)
    return windows


def _check_objects(out: Path, table: pd.DataFrame, params: Augment, scheme: LabelScheme) -> None:
    """Raise InputError for a split that has no foreground left at the networks' size."""
    for fold, name in table[["fold", "split"]].drop_duplicates().itertuples(index=False):
        if not holds_objects(out / f"fold{fold}" / name, scheme):
            raise InputError(
                f"no mask of {name} in fold {fold} keeps any object at {params.width}x"
                f"{params.height}, so nothing can be learnt, chosen or scored on it; raise "
                "augment.height and width, or set augment.patches"
            )


def holds_objects(folder: Path, scheme: LabelScheme) -> bool:
    """Whether any mask of a packed split has foreground."""
    return any(scheme.is_foreground(mask).any() for mask in open_arrays(folder).masks)


def _emptied_copies(out: Path, scheme: LabelScheme) -> str:
    """How many stored copies hold no foreground though their images do, in a line or none."""
    part = open_arrays(out / "fold0" / "train")
    holds = np.array([bool(scheme.is_foreground(mask).any()) for mask in part.masks])
    copy = part.samples["copy"].to_numpy()
    of_original = np.tile(holds[copy == 0], int(copy.max()) + 1)
    emptied = int((of_original & ~holds).sum())
    if not emptied:
        return ""
    return (
        f"WARNING: {emptied} of {int((copy > 0).sum())} augmented copies lose all foreground of "
        "their image; do augment.transforms crop it away or move it out?\n"
    )


Windows = dict[str, list[Window]]
"""Windows by sample id."""


def _open_places(
    out: Path,
    header: Header,
    table: pd.DataFrame,
    windows: Windows,
    params: Augment,
    closing: ExitStack,
) -> dict[str, list["_Place"]]:
    """Open the arrays of every fold and split until `closing` closes; return places by id."""
    places: defaultdict[str, list[_Place]] = defaultdict(list)
    for (fold, name), rows in table.groupby(["fold", "split"], sort=True):
        assert name in SPLITS
        copies = params.copies if name == "train" else 0
        cut = _cut(rows, windows, params)
        packed = [cut.assign(copy=copy) for copy in range(copies + 1)]
        target = out / f"fold{fold}" / str(name)
        writer = ArrayWriter(target, header, pd.concat(packed, ignore_index=True))
        closing.enter_context(writer)
        first = np.cumsum([0, *(len(windows[id]) for id in rows["id"])])
        for start, id in zip(first, rows["id"], strict=False):
            places[id].append(_Place(writer, int(start), copies, len(cut)))
    return places


def _pack_images(
    paths: dict[str, tuple[Path, Path]],
    windows: Windows,
    places: dict[str, list["_Place"]],
    pipeline: Pipeline,
    channels: int,
    params: Augment,
) -> None:
    """Read and resize every image and mask once, and write them to all their places."""
    # Each thread needs its own pipeline, which has a random state. Copy it, since building one
    # changes warning filters, which all threads share.
    own = threading.local()

    def work(id: str) -> None:
        if not hasattr(own, "pipeline"):
            own.pipeline = deepcopy(pipeline)
        image, mask = (read_pixels(path) for path in paths[id])
        image = with_channels(image, channels)
        for number, window in enumerate(windows[id]):
            part = _resized_window(image, mask, window, params)
            for place in places[id]:
                place.write(own.pipeline, params.seed, number, *part)

    for _ in thread_map(work, list(places), "augment", len(places)):
        pass


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to write a sample in one split: its first row, and the number of rows per copy."""

    writer: ArrayWriter
    start: int
    copies: int
    rows: int

    def write(
        self, pipeline: Pipeline, seed: int, window: int, image: Pixels, mask: Pixels
    ) -> None:
        row = self.start + window
        self.writer.write(row, image, mask)
        for copy in range(1, self.copies + 1):
            key = (seed, COPIES_STREAM, copy, row)
            self.writer.write(copy * self.rows + row, *augment_sample(pipeline, image, mask, key))


def _cut(rows: pd.DataFrame, windows: Windows, params: Augment) -> pd.DataFrame:
    """A row per window of each sample: id, group, stratum, and its image and position in it."""
    if params.patches is None:
        return rows[["id", "group", "stratum"]].reset_index(drop=True)
    cut = [window for id in rows["id"] for window in windows[id]]
    counts = [len(windows[id]) for id in rows["id"]]
    table = rows[["id", "group", "stratum"]].loc[rows.index.repeat(counts)].reset_index(drop=True)
    places = [packed_place(window, params.height, params.width) for window in cut]
    return table.assign(
        id=table["id"] + [window.name for window in cut],
        whole=table["id"],
        top=[top for top, _ in places],
        left=[left for _, left in places],
    )


def _resized_window(
    image: Pixels, mask: Pixels, window: Window, params: Augment
) -> tuple[Pixels, Pixels]:
    size = (params.height, params.width)
    return window.resized(image, *size), resize_mask(window.of(mask), *size)


def _write_preview(
    path: Path, pipeline: Pipeline, part: Arrays, params: Augment, background: int | None
) -> None:
    """Draw a row per sample: the sample, then augmented versions, with outlined masks."""
    originals = int((part.samples["copy"] == 0).sum())
    picked = np.linspace(0, originals - 1, min(params.preview_samples, originals)).astype(int)
    rows = []
    for index in picked:
        image, mask = part.images[index], part.masks[index]
        versions = [(image, mask)]
        for version in range(PREVIEW_VERSIONS):
            key = (params.seed, PREVIEW_STREAM, version, int(index))
            versions.append(augment_sample(pipeline, image, mask, key))
        rows.append([outline(varied, truth, background=background) for varied, truth in versions])
    columns = ["as packed", *(f"variation {n + 1}" for n in range(PREVIEW_VERSIONS))]
    save_image_grid(path, rows, columns, [str(part.samples["id"][index]) for index in picked])
