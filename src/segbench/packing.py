"""Packing: every split resized into arrays, with a preview of what training will see."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from segbench import arrays
from segbench.arrays import Arrays, Header
from segbench.augmentation import Pipeline, build_pipeline, save_pipeline, vary
from segbench.params import Augment
from segbench.pictures import outline, save_sheet
from segbench.samples import Pixels, read_info, read_pixels, read_samples
from segbench.splitting import SPLITS, read_split
from segbench.writing import whole_file, whole_folder

# Copies, preview and training draw from separate streams of the same seed.
COPIES_STREAM, PREVIEW_STREAM = 1_000_000_007, 1_000_000_009
PREVIEW_VERSIONS = 5


def resize(image: Pixels, mask: Pixels, height: int, width: int) -> tuple[Pixels, Pixels]:
    """Resize a sample: area (shrinking) or linear for the image, nearest for the mask."""
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # The exact kind samples at pixel centres, as the other two do; plain nearest shifts the mask.
    return (
        cv2.resize(image, (width, height), interpolation=how),
        cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT),
    )


def augment(dataset: Path, split: Path, params: Augment, out: Path, preview: Path) -> str:
    """Pack each split of a canonical dataset, and write the pipeline and a preview sheet.

    `out` receives header.json, pipeline.yaml and fold<k>/<split>/ with images.npy, masks.npy and
    samples.csv. Only training images are varied.

    Returns:
        A line that says what was made.
    """
    pipeline = build_pipeline(params)
    samples = read_samples(dataset).set_index("id")
    table = read_split(split)
    # Grey stays grey only if all of it is.
    channels = max(_channels(read_pixels(dataset / path)) for path in samples["image"])
    digest = hashlib.sha256((dataset / "samples.csv").read_bytes()).hexdigest()
    header = Header(read_info(dataset), params.height, params.width, channels, digest)
    with (
        whole_folder(out) as partial,
        tqdm(total=len(table), desc="augment", unit="image", disable=None) as bar,
    ):
        arrays.write_header(partial, header)
        save_pipeline(pipeline, partial / "pipeline.yaml")
        for (fold, name), rows in table.groupby(["fold", "split"], sort=True):
            assert name in SPLITS
            copies = params.copies if name == "train" else 0
            rows = rows[["id", "group", "stratum"]]
            packed = [rows.assign(copy=copy) for copy in range(copies + 1)]
            target = partial / f"fold{fold}" / str(name)
            part = arrays.create(target, header, pd.concat(packed, ignore_index=True))
            for index, id in enumerate(rows["id"]):
                files = samples.loc[id]
                image = _with_channels(read_pixels(dataset / files["image"]), channels)
                mask = read_pixels(dataset / files["mask"])
                image, mask = resize(image, mask, params.height, params.width)
                image = image.reshape(header.height, header.width, channels)
                for copy in range(copies + 1):
                    at = copy * len(rows) + index
                    key = (params.seed, COPIES_STREAM, copy, index)
                    pair = vary(pipeline, image, mask, key) if copy else (image, mask)
                    part.images[at], part.masks[at] = pair
                bar.update()
            arrays.flush(part)
            if fold == 0 and name == "train":
                with whole_file(preview) as sheet:
                    _write_preview(sheet, pipeline, part, params)
    sizes = table.groupby("split").size()
    counts = ", ".join(f"{name} {sizes[name]}" for name in SPLITS)
    added = f", {params.copies} augmented copies of each training image" if params.copies else ""
    return (
        f"{counts} images packed at {params.width}x{params.height}x{channels}{added} in {out}; "
        f"preview in {preview}"
    )


def _channels(image: Pixels) -> int:
    return 1 if image.ndim == 2 else image.shape[2]


def _with_channels(image: Pixels, channels: int) -> Pixels:
    grey_among_colours = image.ndim == 2 and channels == 3
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if grey_among_colours else image


def _write_preview(path: Path, pipeline: Pipeline, part: Arrays, params: Augment) -> None:
    """A row a sample: the sample itself, then several variations, masks outlined."""
    originals = int((part.samples["copy"] == 0).sum())
    picked = np.linspace(0, originals - 1, min(params.preview_samples, originals)).astype(int)
    rows = []
    for index in picked:
        image, mask = part.images[index], part.masks[index]
        versions = [(image, mask)]
        for version in range(PREVIEW_VERSIONS):
            key = (params.seed, PREVIEW_STREAM, version, int(index))
            versions.append(vary(pipeline, image, mask, key))
        rows.append([outline(varied, truth=truth) for varied, truth in versions])
    columns = ["as packed", *(f"variation {n + 1}" for n in range(PREVIEW_VERSIONS))]
    save_sheet(path, rows, columns, [str(part.samples["id"][index]) for index in picked])
