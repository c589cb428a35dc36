"""Objects found: detection F1 and panoptic quality (Kirillov et al. 2019), also by object size.

Objects are 8-connected components of a class: of objects that touch, a mask of classes shows one.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.metrics.definition import Definition, OwnSize
from segbench.metrics.one_class import OneClass, mean_over_classes

OVERLAP = 0.5
"""IoU above which a predicted object matches a true one; no object matches two."""
SIZES = {
    "": (0.0, np.inf),
    "_small": (0.0, 32.0**2),
    "_medium": (32.0**2, 96.0**2),
    "_large": (96.0**2, np.inf),
}
"""Ends of column names, and how many pixels of the original image such objects have: from, to
below. The bounds are those of COCO."""

_SCORES = {
    "detection_f1": "2TP / (2TP + FP + FN) of objects",
    "panoptic_quality": "sum of the IoU of matched objects / (TP + FP/2 + FN/2)",
}
_WORDS = {
    "": "",
    "_small": f" of fewer than {32**2} pixels",
    "_medium": f" of {32**2} to {96**2 - 1} pixels",
    "_large": f" of at least {96**2} pixels",
}
DEFINITIONS = {
    f"{name}{ending}": Definition(
        f"{formula}{_WORDS[ending]}, at the image's own size: a predicted object matches a true "
        f"one if their IoU is above {OVERLAP}, and counts as of the true one's size (Kirillov et "
        "al. 2019)",
        "left out where neither truth nor prediction has such objects; 0 where none matches",
    )
    for name, formula in _SCORES.items()
    for ending in SIZES
}


def of_masks(own: OwnSize) -> dict[str, float]:
    """Scores of the objects of an image, averaged over its classes."""
    return mean_over_classes(own, DEFINITIONS, _of_class)


class Matches(NamedTuple):
    """Objects of an image, by their areas in pixels that are not ignored.

    Attributes:
        iou: (M,) of true objects that are found.
        found: (M,) their areas.
        missed: (K,) of true objects that are not found.
        wrong: (L,) of predicted objects that are none.
    """

    iou: NDArray[np.float64]
    found: NDArray[np.int64]
    missed: NDArray[np.int64]
    wrong: NDArray[np.int64]


def match(masks: OneClass) -> Matches:
    """Match the objects of a class.

    Ignored pixels are in no IoU, and a predicted object that is ignored by more than half is not
    wrong, as in the panoptic quality of COCO.
    """
    (num_pred, pred), (num_true, true) = (
        cv2.connectedComponents(mask, connectivity=8) for mask in (masks.pred, masks.truth)
    )
    areas, whole = (
        np.bincount(labels.ravel(), minlength=number)
        for labels, number in ((true, num_true), (pred, num_pred))
    )
    hidden = np.zeros_like(whole)
    if masks.ignored is not None:
        hidden = np.bincount(pred[masks.ignored.view(bool)], minlength=num_pred)
    both = (masks.pred & masks.truth).view(bool)
    cells = np.ravel_multi_index((true[both], pred[both]), (num_true, num_pred))
    pairs, shared = np.unique(cells, return_counts=True)
    of_true, of_pred = np.unravel_index(pairs, (num_true, num_pred))
    iou = shared / (areas[of_true] + (whole - hidden)[of_pred] - shared)
    matched = iou > OVERLAP
    is_missed, is_wrong = np.ones(num_true, bool), 2 * hidden <= whole
    is_missed[of_true[matched]] = is_wrong[of_pred[matched]] = False
    is_missed[0] = is_wrong[0] = False  # the background
    return Matches(
        iou[matched], areas[of_true[matched]], areas[is_missed], (whole - hidden)[is_wrong]
    )


def _of_class(masks: OneClass, _: OwnSize) -> list[float]:
    found = match(masks)
    f1, quality = [], []
    for low, high in SIZES.values():
        here, missed, wrong = (
            (part >= low) & (part < high) for part in (found.found, found.missed, found.wrong)
        )
        right = np.count_nonzero(here)
        halves = right + (np.count_nonzero(missed) + np.count_nonzero(wrong)) / 2
        f1.append(right / halves if halves else np.nan)
        quality.append(found.iou[here].sum() / halves if halves else np.nan)
    return [*f1, *quality]
