"""Masks of one class of an image, for optional metrics that look at its shape."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from segbench.images import IGNORE, Pixels, count_values
from segbench.metrics.counts import mean_of_defined
from segbench.metrics.definition import OwnSize


@dataclass(frozen=True)
class OneClass:
    """Where a class is, cropped to a box around truth and prediction, one pixel wider if it can be.

    Attributes:
        pred: (H, W) 0 and 1, also where pixels are ignored.
        truth: (H, W) 0 and 1.
        ignored: (H, W) 1 where pixels are ignored; None: nowhere.
    """

    pred: Pixels
    truth: Pixels
    ignored: Pixels | None


def mean_over_classes(
    own: OwnSize, names: Iterable[str], score: Callable[[OneClass, OwnSize], Sequence[float]]
) -> dict[str, float]:
    """Scores of an image by name, each a mean over its classes; NaN where none defines it.

    Args:
        own: masks at the image's own size.
        names: of the scores.
        score: of a class, in the order of the names.
    """
    hidden = (own.mask == IGNORE).view(np.uint8)
    present = {*count_values(own.mask).nonzero()[0], *count_values(own.pred_mask).nonzero()[0]}
    rows = []
    for class_id in sorted(present.intersection(own.class_ids)):  # no other defines a score
        pred, truth = ((mask == class_id).view(np.uint8) for mask in (own.pred_mask, own.mask))
        left, top, width, height = cv2.boundingRect(pred | truth)
        box = np.s_[max(0, top - 1) : top + height + 1, max(0, left - 1) : left + width + 1]
        found, there, ignored = (np.ascontiguousarray(mask[box]) for mask in (pred, truth, hidden))
        rows.append(score(OneClass(found, there, ignored if ignored.any() else None), own))
    names = list(names)
    table = np.array(rows, float).reshape(len(rows), len(names))
    return dict(zip(names, mean_of_defined(table.T).tolist(), strict=True))
