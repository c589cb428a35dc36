"""Scores that need no threshold: histograms of probabilities, and what follows from them.

A probability is kept as a byte, floor(256 p): a histogram of bytes, of foreground and of the rest,
gives the counts at each of 256 thresholds exactly, without the network.
"""

import numpy as np
from numpy.typing import NDArray

from segbench.images import IGNORE, Pixels
from segbench.metrics.counts import FN, FP, TN, TP
from segbench.metrics.definition import Definition

LEVELS = 256
Histogram = NDArray[np.int64]
"""(..., 2, 256): how many pixels of the rest (0) and of the class (1) have each probability."""

DEFINITIONS = {
    "average_precision": Definition(
        "sum over 256 thresholds of precision x what recall grows by, of the pixels of an image",
        "left out where the truth is empty",
    ),
    "dice_soft_batch": Definition(
        "2 sum(p t) / (sum(p) + sum(t)) of the pixels of evaluate.batch_size images together, as "
        "losses see it",
        "left out where truth and probabilities are 0",
    ),
}


def foreground(probs_u8: Pixels) -> Pixels:
    """Probabilities of the foreground classes (F, H, W), of (C, H, W)."""
    return probs_u8 if len(probs_u8) == 1 else probs_u8[1:]


def histogram(probs_u8: Pixels, mask: Pixels) -> Histogram:
    """Count the probabilities of an image.

    Args:
        probs_u8: (C, H, W), see `on_device.to_probs_u8`.
        mask: (H, W) class ids, 255 where ignored.

    Returns:
        (F, 2, 256).
    """
    counted = mask != IGNORE
    rows = []
    for class_id, probs in enumerate(foreground(probs_u8), start=1):
        own = np.bincount(probs[mask == class_id], minlength=LEVELS)
        of_all = probs.ravel() if counted.all() else probs[counted]
        rows.append([np.bincount(of_all, minlength=LEVELS) - own, own])
    return np.array(rows)


def counts_at(histograms: Histogram) -> NDArray[np.int64]:
    """Counts (..., 256, 4) at every threshold: from level k on, a pixel is foreground."""
    above = histograms[..., ::-1].cumsum(axis=-1)[..., ::-1]
    counts = np.empty((*histograms.shape[:-2], LEVELS, 4), np.int64)
    counts[..., TP], counts[..., FP] = above[..., 1, :], above[..., 0, :]
    counts[..., FN] = above[..., 1, :1] - above[..., 1, :]
    counts[..., TN] = above[..., 0, :1] - above[..., 0, :]
    return counts


def average_precision(histograms: Histogram) -> NDArray[np.float64]:
    """Area under the steps of precision over recall, of (..., 2, 256): (...) in [0, 1] or NaN."""
    counts = counts_at(histograms)[..., ::-1, :]  # from the highest threshold down
    hits, found = counts[..., TP], counts[..., TP] + counts[..., FP]
    positives = hits[..., -1]
    gained = np.diff(hits, axis=-1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (gained * np.where(found > 0, hits / found, 0.0)).sum(axis=-1) / positives
    return np.where(positives > 0, area, np.nan)
