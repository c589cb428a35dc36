"""A row of numbers for a predicted image: how much of each class, how many objects, how sure."""

import cv2
import numpy as np

from segbench.images import Pixels, count_values, histogram
from segbench.labels import LabelScheme, class_keys
from segbench.metrics.probabilities import LEVELS

Row = dict[str, int | float]


def columns(classes: tuple[str, ...], scheme: LabelScheme) -> list[str]:
    """Names of the numbers of `row_of`."""
    keys = class_keys(classes)
    of_classes = [f"{what}_{keys[at]}" for at in scheme.scored for what in ("share", "objects")]
    return ["width", "height", "certainty", *of_classes]


def row_of(mask: Pixels, probs_u8: Pixels, scheme: LabelScheme) -> list[int | float]:
    """The numbers of an image, in the order of `columns`.

    Args:
        mask: (H', W') class ids at the image's own size.
        probs_u8: (C, H, W) probabilities at the network's, see `on_device.to_probs_u8`.
        scheme: of the classes.

    Returns:
        Width and height in pixels; the mean probability of the likelier class at each pixel; and
        of each class that has scores, its share of the pixels and how many 8-connected components
        it has.
    """
    height, width = mask.shape
    counts = count_values(mask)
    row: list[int | float] = [width, height, round(certainty(probs_u8), 4)]
    for id in scheme.scored:
        number = num_components(mask, id) if counts[id] else 0
        row += [round(int(counts[id]) / mask.size, 6), number]
    return row


def certainty(probs_u8: Pixels) -> float:
    """Mean probability of the likelier class, of probabilities (C, H, W) as bytes."""
    middle = (np.arange(LEVELS) + 0.5) / LEVELS
    if len(probs_u8) == 1:
        plane, sure = probs_u8[0], np.maximum(middle, 1 - middle)
    else:
        plane, sure = probs_u8.max(axis=0), middle
    return float(histogram(plane) @ sure / plane.size)


def num_components(mask: Pixels, id: int) -> int:
    """8-connected components of a class in a mask (H, W)."""
    own = (mask == id).view(np.uint8)
    left, top, width, height = cv2.boundingRect(own)
    part = np.ascontiguousarray(own[top : top + height, left : left + width])
    return int(cv2.connectedComponents(part, connectivity=8, ltype=cv2.CV_32S)[0]) - 1
