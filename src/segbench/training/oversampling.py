"""Repeat-factor sampling: images with rare classes come more often in an epoch.

Source: Gupta, Dollár and Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation",
CVPR 2019, section 3.3.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segbench.arrays.store import Arrays


def classes_held(arrays: Arrays, num_classes: int) -> NDArray[np.bool_]:
    """(N, K): whether the mask of an image holds a pixel of a class."""
    held = np.empty((len(arrays.masks), num_classes), bool)
    for at, mask in enumerate(arrays.masks):
        held[at] = np.bincount(mask.ravel(), minlength=256)[:num_classes] > 0
    arrays.drop_page_cache()
    return held


def repeat_factors(
    held: NDArray[np.bool_], threshold: float, class_ids: Sequence[int]
) -> NDArray[np.float64]:
    """How often each image should come in an epoch, on average.

    A class that a share f of the images holds asks for max(1, sqrt(threshold / f)), and an image
    for the greatest of what its classes ask for, the background aside.

    Args:
        held: (N, K), whether an image holds a class.
        threshold: share of the images from which a class is not rare.
        class_ids: of the classes that ask: all but the background.

    Returns:
        (N,), 1 or more.
    """
    shares = held.mean(axis=0)
    factors = np.sqrt(threshold / np.maximum(shares, 1 / len(held))).clip(min=1.0)
    asked: NDArray[np.float64] = np.where(held, factors, 1.0)[:, list(class_ids)]
    return asked.max(axis=1)
