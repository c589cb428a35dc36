"""Annotated copies: two images that are equal but for something drawn or written on one of them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.images import Pixels

# This share of a thumbnail, and of the whole image, is as it was: it differs by no more than that.
SAME_OF_THUMBNAIL, SAME_OF_IMAGE, SAME_WITHIN = 0.6, 0.8, 8
# What is drawn differs by so much, and is so large a share of the image and of all that differs.
DRAWN_FROM, LEAST_DRAWN, LEAST_OF_DIFFERENCE = 40, 0.0005, 0.2
# What is drawn has few colours: of 16 steps each in red, green and blue, these hold so much of it.
NUM_COLOURS, LEAST_OF_COLOURS = 3, 0.5


def may_be_annotated(first: Pixels, second: Pixels) -> NDArray[np.bool_]:
    """(P,) of thumbnails (P, H, W, C), two by two: is most of them equal?"""
    differ = np.abs(first.astype(np.int16) - second).max(axis=-1)
    return np.asarray((differ <= SAME_WITHIN).mean(axis=(1, 2)) >= SAME_OF_THUMBNAIL)


def is_annotated(first: Pixels, second: Pixels) -> bool:
    """Are two images equal but for something drawn or written on one of them?"""
    if first.shape != second.shape:
        return False
    difference = cv2.absdiff(first, second)
    if difference.ndim == 3:
        difference = difference.max(axis=2)
    same = float((difference <= SAME_WITHIN).mean())
    drawn = difference >= DRAWN_FROM
    share = float(drawn.mean())
    # A video's next frame differs by a little almost everywhere.
    if same < SAME_OF_IMAGE or share < max(LEAST_DRAWN, LEAST_OF_DIFFERENCE * (1 - same)):
        return False
    # Where something has moved, both images show parts of it and of what is behind.
    return max(_of_few_colours(image[drawn]) for image in (first, second)) >= LEAST_OF_COLOURS


def _of_few_colours(pixels: Pixels) -> float:
    """Share of pixels (N,) or (N, C) that have one of the most frequent colours."""
    steps = (pixels.reshape(len(pixels), -1) >> 4).astype(np.int64)
    _, counts = np.unique(steps @ 16 ** np.arange(steps.shape[1]), return_counts=True)
    return float(np.sort(counts)[-NUM_COLOURS:].sum() / len(pixels))
