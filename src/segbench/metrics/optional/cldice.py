"""clDice: whether thin structures (vessels, cracks, roads) are found without gaps.

Shit et al. 2021, "clDice: a novel topology-preserving loss function for tubular structure
segmentation". Centre lines are what the thinning of Zhang and Suen (1984) leaves, as there.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.images import Pixels
from segbench.metrics.definition import Definition, OwnSize
from segbench.metrics.one_class import OneClass, mean_over_classes

DEFINITIONS = {
    "cldice": Definition(
        "2PS / (P + S); P is the share of the prediction's centre line that lies in the truth, S "
        "that of the truth's in the prediction, at the image's own size (Shit et al. 2021)",
        "left out where truth and prediction are both empty; 0 where one of them is",
    )
}


def of_masks(own: OwnSize) -> dict[str, float]:
    """clDice of an image, averaged over its classes."""
    return mean_over_classes(own, DEFINITIONS, _of_class)


def _of_class(masks: OneClass, _: OwnSize) -> list[float]:
    counted = 1 if masks.ignored is None else 1 - masks.ignored
    lines = [skeleton(mask) & counted for mask in (masks.pred, masks.truth)]
    sizes = [np.count_nonzero(line) for line in lines]
    if not any(sizes):
        return [np.nan]
    inside = [np.count_nonzero(lines[0] & masks.truth), np.count_nonzero(lines[1] & masks.pred)]
    if not all(inside):
        return [0.0]
    precision, sensitivity = (part / size for part, size in zip(inside, sizes, strict=True))
    return [2 * precision * sensitivity / (precision + sensitivity)]


_AROUND = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)
"""The weight of each neighbour in the number that stands for all eight, clockwise from the top."""


def skeleton(mask: Pixels) -> Pixels:
    """Centre lines of a mask (H, W) of 0 and 1, likewise; the mask itself where none is left.

    Thinning takes away all of a square of 2x2.
    """
    line, is_thin = mask, not mask.any()
    while not is_thin:
        is_thin = True
        for removable in _REMOVABLE:
            around = cv2.filter2D(line, cv2.CV_8U, _AROUND, borderType=cv2.BORDER_CONSTANT)
            gone = cv2.LUT(around, removable) & line
            if gone.any():
                line, is_thin = line - gone, False
    return line if line.any() else mask


def _removable(last: bool) -> NDArray[np.uint8]:
    """(256,) 1 where a pixel with these neighbours is removed, in the first or last half of a step.

    It must have two to six neighbours, all in one run, and lie on the right side.
    """
    table = np.zeros(256, np.uint8)
    for code in range(256):
        north, _, east, _, south, _, west, _ = around = [code >> bit & 1 for bit in range(8)]
        runs = sum(now < then for now, then in zip(around, around[1:] + around[:1], strict=True))
        sides = (
            north * east * west + north * south * west
            if last
            else north * east * south + east * south * west
        )
        table[code] = 2 <= sum(around) <= 6 and runs == 1 and not sides
    return table


_REMOVABLE = (_removable(last=False), _removable(last=True))
