"""Threshold-free scores, from histograms of probabilities.

Probabilities are stored as bytes, floor(256 p): histograms over true foreground and over the rest
give exact counts at each of 256 thresholds, without the network.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segbench import images
from segbench.images import IGNORE, Pixels
from segbench.images import LEVELS as LEVELS
from segbench.metrics.counts import FN, FP, TN, TP
from segbench.metrics.definition import Definition

PROBABILITIES = (np.arange(LEVELS) + 0.5) / LEVELS
"""(256,) what the levels stand for: the middle of each, but nearly all pixels of the first and the
last are surer than that."""
PROBABILITIES[[0, -1]] = 0, 1
Histogram = NDArray[np.int64]
"""(..., 2, 256): number of pixels at each probability, outside (0) and inside (1) the class."""

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


def histogram(probs_u8: Pixels, mask: Pixels, class_ids: Sequence[int]) -> Histogram:
    """Histograms of the probabilities of an image.

    Args:
        probs_u8: (C, H, W), see `on_device.to_probs_u8`.
        mask: (H, W) class ids, 255 where ignored.
        class_ids: F classes that are scored; the one that the logit is of, where C is 1.

    Returns:
        (F, 2, 256).
    """
    counted = mask != IGNORE
    where = None if counted.all() else counted
    rows = []
    for class_id in class_ids:
        probs, truth = probs_u8[0 if len(probs_u8) == 1 else class_id], mask == class_id
        own = images.histogram(probs, truth) if truth.any() else np.zeros(LEVELS, np.int64)
        rows.append([images.histogram(probs, where) - own, own])
    return np.array(rows)


def counts_at(histograms: Histogram) -> NDArray[np.int64]:
    """Counts (..., 256, 4) at every threshold k, at which bytes >= k are foreground."""
    above = histograms[..., ::-1].cumsum(axis=-1)[..., ::-1]
    counts = np.empty((*histograms.shape[:-2], LEVELS, 4), np.int64)
    counts[..., TP], counts[..., FP] = above[..., 1, :], above[..., 0, :]
    counts[..., FN] = above[..., 1, :1] - above[..., 1, :]
    counts[..., TN] = above[..., 0, :1] - above[..., 0, :]
    return counts


def average_precision(histograms: Histogram) -> NDArray[np.float64]:
    """Area under the precision-recall step curve: (..., 2, 256) to (...), in [0, 1] or NaN."""
    counts = counts_at(histograms)[..., ::-1, :]  # from the highest threshold down
    hits, found = counts[..., TP], counts[..., TP] + counts[..., FP]
    positives = hits[..., -1]
    gained = np.diff(hits, axis=-1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (gained * np.where(found > 0, hits / found, 0.0)).sum(axis=-1) / positives
    return np.where(positives > 0, area, np.nan)
