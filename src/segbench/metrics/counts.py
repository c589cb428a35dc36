"""Pixel counts (the confusion matrix of each class) and the scores that are ratios of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.images import IGNORE, Pixels, histogram, joint_histogram
from segbench.metrics.definition import Definition

TP, FP, FN, TN = range(4)
COUNTS = ("tp", "fp", "fn", "tn")
Counts = NDArray[np.int64]
Cells = NDArray[Any]
Ratios = NDArray[np.float64]
MOST_ONE_BY_ONE = 3
"""Classes that are counted faster one after another than by a histogram."""


def count_image(pred_mask: Pixels, mask: Pixels, class_ids: Sequence[int]) -> tuple[Counts, Counts]:
    """`count` and `count_correct` for one image, on a single core.

    torch would split each of these small sums over all cores, and lose more time to
    synchronisation, also with the network's threads, than it gains.

    Args:
        pred_mask: (H, W) class ids.
        mask: (H, W) class ids, 255 where ignored.
        class_ids: F classes to count.

    Returns:
        (F, 4) and (2,).
    """
    if pred_mask.shape != mask.shape:
        raise ValueError(f"masks differ in shape: {pred_mask.shape}, {mask.shape}")
    counted = mask != IGNORE
    agree = (pred_mask == mask) & counted
    correct = np.array([np.count_nonzero(agree), np.count_nonzero(counted)])
    right, found, there = (
        count_classes(class_ids, *part)
        for part in ((mask, agree), (pred_mask, counted), (mask, counted))
    )
    cells = np.empty((len(class_ids), 4), np.int64)
    cells[:, TP], cells[:, FP], cells[:, FN] = right, found - right, there - right
    cells[:, TN] = correct[1] - found - there + right
    return cells, correct


def count_classes(
    class_ids: Sequence[int], mask: Pixels, where: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """(F,): how many pixels (H, W), or those of them that are marked, are of each class."""
    if len(class_ids) > MOST_ONE_BY_ONE:
        return histogram(mask, where)[list(class_ids)]
    own = (mask == class_id for class_id in class_ids)
    counted = own if where is None else (each & where for each in own)
    return np.array([np.count_nonzero(each) for each in counted], np.int64)


def confusion(pred_mask: Pixels, mask: Pixels, num_classes: int) -> Counts:
    """Pixels by true and predicted class: (C, C), a row for each class of the truth.

    Args:
        pred_mask: (H, W) class ids.
        mask: (H, W) class ids, 255 where ignored, which is in no cell.
        num_classes: C, with the background.
    """
    return joint_histogram(mask, pred_mask, num_classes)


def accuracy(correct: Counts) -> Ratios:
    """Share of correct pixels, (..., 2) to (...): float64 in [0, 1], NaN without pixels."""
    right, counted = correct[..., 0], correct[..., 1]
    return np.divide(right, counted, out=np.full(right.shape, np.nan), where=counted > 0)


def dice(counts: Counts) -> Ratios:
    """2TP / (2TP + FP + FN) of counts (..., 4): (...) float64 in [0, 1] or NaN."""
    tp, fp, fn, _ = _cells(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(counts: Counts) -> Ratios:
    """TP / (TP + FP + FN) of counts (..., 4): (...) float64 in [0, 1] or NaN."""
    tp, fp, fn, _ = _cells(counts)
    return _ratio(tp, tp + fp + fn)


def precision(counts: Counts) -> Ratios:
    """TP / (TP + FP) of counts (..., 4): (...) float64 in [0, 1] or NaN.

    0 where all of an object is missed. What is divided by is the candidate's own: were such images
    left out, a candidate would gain by marking nothing wherever it is unsure, and candidates would
    be compared on different images. What a score lacks because of the prediction therefore counts
    as the worst value (Maier-Hein et al. 2024, Metrics Reloaded).
    """
    tp, fp, fn, _ = _cells(counts)
    missed = (tp + fp == 0) & (fn > 0)
    return np.where(missed, 0.0, _ratio(tp, tp + fp))


def recall(counts: Counts) -> Ratios:
    """TP / (TP + FN) of counts (..., 4): (...) float64 in [0, 1], NaN where nothing is to find."""
    tp, _, fn, _ = _cells(counts)
    return _ratio(tp, tp + fn)


def specificity(counts: Counts) -> Ratios:
    """TN / (TN + FP) of counts (..., 4): (...) float64 in [0, 1], NaN without background."""
    _, fp, _, tn = _cells(counts)
    return _ratio(tn, tn + fp)


SCORES: dict[str, Callable[[Counts], Ratios]] = {
    "dice": dice,
    "iou": iou,
    "precision": precision,
    "recall": recall,
    "specificity": specificity,
}

RATIOS: dict[str, Callable[[Cells, Cells, Cells, Cells], tuple[Cells, Cells]]] = {
    "dice": lambda tp, fp, fn, _: (2 * tp, 2 * tp + fp + fn),
    "iou": lambda tp, fp, fn, _: (tp, tp + fp + fn),
    "precision": lambda tp, fp, fn, _: (tp, tp + fp),
    "recall": lambda tp, fp, fn, _: (tp, tp + fn),
    "specificity": lambda tp, fp, fn, tn: (tn, tn + fp),
}
"""Numerator and denominator of each score, of pixels pooled over images."""

MEANS_OF_CLASSES = {"iou": "mean_iou", "recall": "mean_class_accuracy"}
"""What means over classes of pooled scores are called, if not `<score>_macro`."""

_EMPTY = "left out where truth and prediction are both empty; 0 where one of them is"
DEFINITIONS = {
    "dice": Definition("2TP / (2TP + FP + FN)", _EMPTY),
    "iou": Definition("TP / (TP + FP + FN)", _EMPTY),
    "precision": Definition("TP / (TP + FP)", _EMPTY),
    "recall": Definition("TP / (TP + FN)", "left out where the truth is empty"),
    "specificity": Definition(
        "TN / (TN + FP)", "left out where the truth has no background; holds for empty truth"
    ),
    "accuracy": Definition(
        "pixels of any class that are right / pixels that count", "left out where no pixel counts"
    ),
}


def _cells(counts: Counts) -> tuple[Counts, ...]:
    return tuple(counts[..., cell] for cell in (TP, FP, FN, TN))


def _ratio(part: Counts, whole: Counts) -> Ratios:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def held_classes(counts: Counts) -> NDArray[np.bool_]:
    """(F,) whether the truth of any image has pixels of a class, from counts (N, F, 4)."""
    return np.asarray(counts[..., [TP, FN]].any(axis=(0, 2)))


def mean_ratio_parts(counts: Counts, score: str) -> Ratios:
    """What each image says of a mean over classes: (N, F, 4) to (N,), whose mean it is.

    A mean of ratios of sums is no mean over images. These are its linear approximation in the
    images (the infinitesimal jackknife, Efron 1982): the mean over classes, and N times what an
    image adds to it, so that intervals and tests over groups of images hold for it too. NaN if no
    image holds any class.

    Args:
        counts: of N images and F classes.
        score: of `RATIOS`, pooled for each class that an image holds.
    """
    counts = counts[:, held_classes(counts)]
    ratios = SCORES[score](counts.sum(axis=0))
    defined = ~np.isnan(ratios)
    if not defined.any():
        return np.full(len(counts), np.nan)
    parts, wholes = (each[:, defined] for each in RATIOS[score](*_cells(counts)))
    ratios, whole = ratios[defined], np.maximum(wholes.sum(axis=0), 1)
    added = ((parts - ratios * wholes) / whole).mean(axis=1)
    return np.asarray(ratios.mean() + len(counts) * added)


def per_image(counts: Counts, score: Callable[[Counts], Ratios]) -> Ratios:
    """Mean score over the classes of each image: (N, F, 4) to (N,), NaN if none."""
    return mean_of_defined(score(counts))


def mean_of_defined(values: Ratios) -> Ratios:
    """Mean over the last axis, ignoring NaN; NaN where all values are."""
    defined = ~np.isnan(values)
    total, number = np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def summarise(counts: Counts, correct: Counts) -> dict[str, float]:
    """All scores of a set of images, and for how many images each is undefined.

    `<score>_micro` pools the counts of all images and classes before taking the ratio;
    `<score>_macro` pools over images for each class, then averages over classes; that of IoU and
    recall has its usual name, `mean_iou` and `mean_class_accuracy`;
    `<score>_per_image` averages over the classes of each image, then over images. With one
    foreground class macro equals micro and is left out. Accuracy pools all pixels.

    Nothing can be found of a class that no image holds: it is in no mean over classes. Pixels that
    are taken for it still count as wrong in micro and in accuracy. If no class is held, all but
    accuracy is NaN.
    """
    pooled, held = counts.sum(axis=0), held_classes(counts)
    of_all = pooled.sum(axis=0) if held.any() else np.zeros_like(pooled[0])
    summary = {f"{name}_micro": float(score(of_all)) for name, score in SCORES.items()}
    if len(pooled) > 1:
        summary |= {
            MEANS_OF_CLASSES.get(name, f"{name}_macro"): float(mean_of_defined(score(pooled[held])))
            for name, score in SCORES.items()
        }
    counts = counts[:, held]
    for name, score in SCORES.items():
        summary[f"{name}_per_image"] = float(mean_of_defined(per_image(counts, score)))
    summary["accuracy_micro"] = float(accuracy(correct.sum(axis=0)))
    summary["accuracy_per_image"] = float(mean_of_defined(accuracy(correct)))
    summary["images"] = counts.shape[0]
    summary["images_without_score"] = int(np.isnan(per_image(counts, dice)).sum())
    return summary
