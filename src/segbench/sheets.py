"""Sheets of predictions: the best, the worst, and the same few of every run."""

from pathlib import Path

import numpy as np
import pandas as pd

from segbench.datasets.canonical import Info
from segbench.images import Pixels
from segbench.pictures import class_colours, outline, paint, save_sheet, shrink, to_colour
from segbench.tiling import Wholes
from segbench.tracking.records import Record

EXTREMES = 4
"""Images on each of the sheets of best, median and worst predictions."""
SHOWN = 4
"""Fixed validation samples whose predictions every run shows under the same names."""
GRID_ROWS = 8
TRIPTYCH = ("image", "ground truth", "prediction")


def write_pictures(
    folder: Path, wholes: Wholes, table: pd.DataFrame, predictions: list[Pixels]
) -> None:
    """Sheets of the best, median and worst test predictions: image, truth, prediction."""
    scores = table[table["split"] == "test"]["dice"].to_numpy()
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isnan(scores[order])]
    count = min(EXTREMES, len(order))
    middle = max(0, (len(order) - count) // 2)
    picks = {
        "best": order[:count],
        "median": order[middle : middle + count],
        "worst": order[::-1][:count],
    }
    for name, picked in picks.items():
        if len(picked) == 0:
            continue  # no test image has a score
        rows, labels = [], []
        for index in picked:
            image, truth, pred = _triple(wholes, predictions, index)
            rows.append([outline(image), outline(image, truth=truth), outline(image, truth, pred)])
            labels.append(f"{wholes.samples['id'][index]}   dice {scores[index]:.3f}")
        columns = ["image", "ground truth", "prediction (yellow)"]
        save_sheet(folder / f"{name}.png", rows, columns, labels)


def write_grid(path: Path, wholes: Wholes, predictions: list[Pixels], info: Info) -> None:
    """A sheet of fixed test samples: image, true mask, predicted mask."""
    rows, labels = [], []
    for index in _evenly(len(wholes), GRID_ROWS):
        rows.append(_triptych(wholes, predictions, index, info))
        labels.append(str(wholes.samples["id"][index]))
    save_sheet(path, rows, list(TRIPTYCH), labels)


def write_triptychs(
    folder: Path, wholes: Wholes, predictions: list[Pixels], info: Info, count: int
) -> None:
    """A file for each of `count` test samples: image, true mask, predicted mask."""
    for index in _evenly(len(wholes), count):
        id = str(wholes.samples["id"][index])
        row = _triptych(wholes, predictions, index, info)
        save_sheet(folder / f"{id}.png", [row], list(TRIPTYCH), [id])


def _triple(wholes: Wholes, predictions: list[Pixels], index: int) -> tuple[Pixels, Pixels, Pixels]:
    """Image, truth and prediction of a sample, of one size that can be shown."""
    image, truth, pred = shrink(wholes.image(index), wholes.mask(index), predictions[index])
    return image, truth, pred


def _triptych(wholes: Wholes, predictions: list[Pixels], index: int, info: Info) -> list[Pixels]:
    image, *masks = _triple(wholes, predictions, index)
    return [to_colour(image), *(paint(mask, class_colours(info)) for mask in masks)]


def _evenly(total: int, count: int) -> list[int]:
    """Up to `count` numbers below `total`, evenly spread."""
    return np.linspace(0, total - 1, min(count, total)).astype(int).tolist()


def show_fixed_samples(record: Record, wholes: Wholes, predictions: list[Pixels]) -> None:
    """The same validation samples under the same names in every run, for the tracking UI."""
    for index in _evenly(len(wholes), SHOWN):
        id = wholes.samples["id"][index]
        image, truth, pred = _triple(wholes, predictions, index)
        row = [outline(image, truth=truth), outline(image, truth, pred)]
        path = record.artifact(f"images/prediction~{id}.png")
        save_sheet(path, [row], ["ground truth", "prediction (yellow)"], [str(id)])
