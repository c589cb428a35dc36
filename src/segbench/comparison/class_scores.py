"""Scores of each class by candidate, with intervals, and which class is taken for which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.arrays.store import Header
from segbench.comparison.scores import images_of, normalised
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.uncertainty import intervals
from segbench.evaluation.results import RunResult, read_confusion
from segbench.files import atomic_file
from segbench.metrics.catalogue import MOST_CLASSES
from segbench.metrics.counts import COUNTS, FN, RATIOS, TP

NOTHING = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class ClassScore:
    """Test scores of a candidate on one class; NaN where no test image holds it.

    Attributes:
        alias, name: of the candidate and of the class.
        images: test images that hold it, in all folds.
        dice: mean over the images that hold it or for which it is predicted.
        iou, accuracy: of the pixels of all images: IoU, and the share of its pixels that are found.
    """

    alias: str
    name: str
    images: int
    dice: Interval
    iou: Interval
    accuracy: Interval


@dataclass(frozen=True)
class ClassTable:
    """What a page shows of classes.

    Attributes:
        scores: those of the classes that are shown, by class and candidate.
        hidden: how many classes are not shown.
        absent: names of those that no test image holds.
    """

    scores: dict[str, list[ClassScore]]
    hidden: int
    absent: list[str]


def find_class_scores(
    runs: list[RunResult], aliases: Sequence[str], header: Header, confidence: float
) -> list[ClassScore]:
    """Scores of all classes but the background, class by class, candidates in their order.

    Args:
        runs: of all candidates.
        aliases: C candidates.
        header: of the arrays.
        confidence: of the intervals, each for itself.
    """
    found = []
    images = images_of(runs, aliases, "test")
    counted = {run.name: run.counts["test"].astype(np.uint32) for run in runs}
    groups, folds = images.groups, images.fold_of
    for at, class_id in enumerate(header.dataset.scheme.scored):
        cells = [
            images.stack(partial(_cell, counted, at, cell)) for cell in range(len(COUNTS))
        ]  # each (C, S, N)
        name, holds = header.dataset.classes[class_id], (cells[TP] + cells[FN])[0, 0] > 0
        if not holds.any():
            found += [ClassScore(alias, name, 0, *[NOTHING] * 3) for alias in aliases]
            continue
        columns_of_scores = []
        for metric, is_pooled in (("dice", False), ("iou", True), ("recall", True)):
            part, whole = RATIOS[metric](*cells)
            values = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
            weights = normalised(whole, folds) if is_pooled else None
            columns_of_scores.append(intervals(Panel(values, groups, folds, weights), confidence))
        found += [
            ClassScore(alias, name, int(holds.sum()), *scores)
            for alias, *scores in zip(aliases, *columns_of_scores, strict=True)
        ]
    return found


def _cell(
    counted: Mapping[str, NDArray[np.uint32]], at: int, cell: int, run: RunResult
) -> NDArray[np.uint32]:
    return counted[run.name][:, at, cell]


def table_of(scores: Sequence[ClassScore]) -> ClassTable:
    """Of many classes those that fewest images hold are shown, `MOST_CLASSES`."""
    by_name: dict[str, list[ClassScore]] = {}
    for one in scores:
        by_name.setdefault(one.name, []).append(one)
    there = {name: own for name, own in by_name.items() if own[0].images}
    rarest = sorted(there, key=lambda name: there[name][0].images)[:MOST_CLASSES]
    shown = {name: own for name, own in there.items() if name in rarest}
    absent = [name for name in by_name if name not in there]
    return ClassTable(shown, len(there) - len(shown), absent)


def write_class_scores(scores: Sequence[ClassScore], path: Path) -> None:
    """Write a CSV row for each class and candidate; empty where no test image holds the class."""
    table = pd.DataFrame(
        {
            "class": one.name,
            "candidate": one.alias,
            "images": one.images,
            **_interval("dice_per_image", one.dice),
            **_interval("iou", one.iou),
            **_interval("class_accuracy", one.accuracy),
        }
        for one in scores
    )
    with atomic_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def _interval(name: str, value: Interval) -> dict[str, float]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}


def confusion_of(runs: Sequence[RunResult]) -> NDArray[np.int64]:
    """Test pixels (K, K) by true and predicted class id, of all runs together."""
    pixels: NDArray[np.int64] = np.sum([read_confusion(run) for run in runs], axis=0)
    return pixels


def confusion_shares(pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K): shares of each true class; NaN where no pixel is of it."""
    shares = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1)
    shares[pixels.sum(axis=1) == 0] = np.nan
    return shares


def write_confusion_table(pixels: NDArray[np.int64], names: Sequence[str], path: Path) -> None:
    """Write a CSV row for each true and predicted class: pixels, and their share of the true class.

    Args:
        pixels: see `confusion_of`.
        names: of the classes by id.
        path: of the file.
    """
    table = pd.DataFrame(
        {
            "truth": np.repeat(names, len(names)),
            "predicted": np.tile(names, len(names)),
            "pixels": pixels.ravel(),
            "share": confusion_shares(pixels).ravel().round(6),
        }
    )
    with atomic_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
