"""Pictures of predictions that a run leaves, beside it and in its record."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.arrays.tiling import StitchedImages
from segbench.datasets.canonical import DatasetInfo
from segbench.evaluation.results import Predictions
from segbench.files import atomic_folder
from segbench.images import Pixels
from segbench.report.drawing import class_colours
from segbench.report.predictions import (
    PredictedSplit,
    write_extremes,
    write_fixed_samples,
    write_grid,
    write_triptychs,
)
from segbench.tracking.records import Record


def write_pictures(
    record: Record,
    out: Path,
    predictions: Path,
    stitched: Mapping[str, StitchedImages],
    info: DatasetInfo,
    test_dice: NDArray[np.float64],
    num_triptychs: int,
) -> None:
    """Draw predictions into folders of `out`, and again into the record."""
    with Predictions(predictions) as masks:
        splits = {
            name: _predicted(own, partial(masks.read, name), info) for name, own in stitched.items()
        }
        with atomic_folder(out / "pictures") as folder:
            write_extremes(folder, splits["test"], test_dice)
            write_grid(folder / "grid.png", splits["test"])
            _add_to(record, folder, "pictures")
        with atomic_folder(out / "triptychs") as folder:
            write_triptychs(folder, splits["test"], num_triptychs)
            _add_to(record, folder, "triptychs")
        write_fixed_samples(record.artifact, splits["val"])


def _predicted(
    stitched: StitchedImages, read: Callable[[str], Pixels], info: DatasetInfo
) -> PredictedSplit:
    ids = [str(id) for id in stitched.samples["id"]]
    return PredictedSplit(
        *(ids, stitched.image, stitched.mask, lambda index: read(ids[index])),
        info.classes,
        class_colours(info.colours, info.scheme),
        info.background,
    )


def _add_to(record: Record, folder: Path, name: str) -> None:
    for picture in folder.iterdir():
        record.artifact(f"{name}/{picture.name}").write_bytes(picture.read_bytes())
