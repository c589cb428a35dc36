"""Grids of predictions: best, median and worst, and the same few images of every run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.images import IGNORE, Pixels, as_rgb
from segbench.report.drawing import colourise, outline, save_image_grid, shrink
from segbench.report.legend import with_legend
from segbench.report.overlay import overlay

EXTREMES = 4
"""Images in each of the grids of best, median and worst predictions."""
FIXED = 4
"""Fixed validation images whose predictions every run shows under the same names."""
LEAST = 256
"""Pixels of the shorter side of these, so that a legend has room."""
GRID_ROWS = 8
TRIPTYCH = ("image", "ground truth", "prediction")


@dataclass(frozen=True)
class PredictedSplit:
    """The images of a split with what a network predicted, N of them.

    Attributes:
        ids: (N,).
        image: reads an image (H, W, C) by its index; only those that are drawn are read.
        mask: reads its ground truth (H, W), class ids, likewise.
        pred_mask: reads what was predicted (H, W), class ids, likewise.
        classes: names by class id.
        colours: `#rrggbb` by class id.
        background: class id that is not outlined; None: there is none.
    """

    ids: Sequence[str]
    image: Callable[[int], Pixels]
    mask: Callable[[int], Pixels]
    pred_mask: Callable[[int], Pixels]
    classes: Sequence[str]
    colours: Sequence[str]
    background: int | None

    def small(self, index: int) -> tuple[Pixels, Pixels, Pixels]:
        """Image, ground truth and prediction, shrunk to the same size for a page."""
        image, truth, pred = shrink(self.image(index), self.mask(index), self.pred_mask(index))
        return image, truth, pred

    def outlined(self, index: int) -> list[Pixels]:
        """Image, ground truth, and both it and the prediction, as outlines."""
        image, truth, pred = self.small(index)
        drawn: list[tuple[Pixels | None, Pixels | None]] = [
            (None, None),
            (truth, None),
            (truth, pred),
        ]
        return [outline(image, *masks, background=self.background) for masks in drawn]

    def triptych(self, index: int) -> list[Pixels]:
        """Image, ground truth and prediction as pictures (H, W, 3), masks in their colours."""
        image, *masks = self.small(index)
        return [as_rgb(image), *(colourise(mask, self.colours) for mask in masks)]


def write_extremes(folder: Path, split: PredictedSplit, scores: NDArray[np.float64]) -> None:
    """Write best.png, median.png and worst.png: rows of image, ground truth, prediction.

    Args:
        folder: exists.
        split: N images.
        scores: (N,) dice; NaN where an image has none, which is left out. Without any score no
            file is written.
    """
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
            continue  # no image has a score
        rows, labels = [], []
        for index in picked:
            rows.append(split.outlined(index))
            labels.append(f"{split.ids[index]}   dice {scores[index]:.3f}")
        columns = ["image", "ground truth", "prediction (yellow)"]
        save_image_grid(folder / f"{name}.png", rows, columns, labels)


def write_grid(path: Path, split: PredictedSplit) -> None:
    """Write a PNG of evenly picked images, a row each: image, true mask, predicted mask."""
    picked = _evenly(len(split.ids), GRID_ROWS)
    rows = [split.triptych(index) for index in picked]
    save_image_grid(path, rows, list(TRIPTYCH), [split.ids[index] for index in picked])


def write_triptychs(folder: Path, split: PredictedSplit, count: int) -> None:
    """Write `<id>.png` for each of up to `count` evenly picked images.

    Args:
        folder: exists.
        split: N images.
        count: how many.
    """
    for index in _evenly(len(split.ids), count):
        id = split.ids[index]
        save_image_grid(folder / f"{id}.png", [split.triptych(index)], list(TRIPTYCH), [id])


def fixed_samples(ids: Iterable[str]) -> list[str]:
    """The same few samples for every run of a split with these ids, in order."""
    listed = sorted(set(ids))
    return [listed[index] for index in _evenly(len(listed), FIXED)]


def write_fixed_samples(place: Callable[[str], Path], split: PredictedSplit) -> None:
    """Write predictions of the same images under the same names in every run, for the tracking UI.

    Args:
        place: gives the path of an artifact by its name.
        split: the validation split.
    """
    at = {id: index for index, id in enumerate(split.ids)}
    for id in fixed_samples(split.ids):
        image, truth, pred = split.small(at[id])
        drawn = overlay(image, pred, split.colours, split.background, truth, LEAST)
        seen = [
            int(one) for one in np.union1d(truth, pred) if one not in (split.background, IGNORE)
        ]
        entries = [(split.classes[one], split.colours[one]) for one in seen]
        picture = with_legend(drawn, entries, "prediction; striped: wrong")
        picture.save(place(f"images/prediction~{id}.png"), compress_level=4)


def _evenly(total: int, count: int) -> list[int]:
    """Up to `count` numbers below `total`, evenly spread."""
    return np.linspace(0, total - 1, min(count, total)).astype(int).tolist()
