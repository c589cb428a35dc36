"""From what a network says to a mask: a threshold, and what is cleaned up after it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.evaluation.predict import Seen
from segbench.images import IGNORE, Pixels
from segbench.metrics import counts
from segbench.metrics.probabilities import LEVELS, Histogram, counts_at, histogram
from segbench.params.evaluate import Choose


@dataclass(frozen=True)
class Rule:
    """How masks are made.

    Attributes:
        threshold: probability from which a pixel is foreground, where there is one class of it.
        min_size: components of fewer pixels become background; counted at the network's size.
        largest: all components of a class but the largest become background.
        flips: the network sees an image and its three mirror images, and logits are averaged.
    """

    threshold: float
    min_size: int
    largest: bool
    flips: bool

    @property
    def cleans(self) -> bool:
        """Does it look at components at all?"""
        return self.min_size > 1 or self.largest


def decide(levels: NDArray[np.uint8] | NDArray[np.float32], threshold: float) -> Pixels:
    """Class ids (H, W) of levels (C, H, W) in [0, 256), see `probabilities.to_levels`."""
    if len(levels) == 1:
        return (levels[0] >= threshold * LEVELS).astype(np.uint8)
    return levels.argmax(axis=0).astype(np.uint8)


def clean(mask: Pixels, rule: Rule, scale: float) -> Pixels:
    """A mask without the components that a rule takes away.

    Args:
        mask: (H, W) class ids.
        rule: what to take away; components are 8-connected.
        scale: pixels of this mask for each of the network's.
    """
    if not rule.cleans:
        return mask
    cleaned = np.zeros_like(mask)
    for class_id in np.unique(mask[mask > 0]):
        own = (mask == class_id).view(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA].copy()
        areas[0] = 0  # the background
        keeps = areas >= max(1.0, rule.min_size * scale)
        if rule.largest:
            keeps &= np.arange(len(areas)) == areas.argmax()
        cleaned[keeps[labels]] = class_id
    return cleaned


def enlarge(levels: Pixels, height: int, width: int) -> NDArray[np.float32]:
    """Levels (C, H, W) at another size: (C, height, width), linear between pixels."""
    return np.stack(
        [
            cv2.resize(level.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
            for level in levels
        ]
    )


Choice = tuple[float, Rule]
"""Mean dice per image on validation, and the rule that reached it."""


def choose(plain: Rule, asked: Choose, seen_by: Mapping[bool, Sequence[Seen]]) -> list[Choice]:
    """Try rules, and put the best first.

    First the threshold, by each image's counts at all 256 of them; then, at that threshold, what is
    cleaned up; all of it for each way of looking at an image.

    Args:
        plain: what holds where nothing else is better.
        asked: what is tried.
        seen_by: the validation images as a network sees them without and with mirror images, as far
            as that is tried.

    Returns:
        All that was tried, best first; among equals what interferes least, and the threshold that
        is nearest to the plain one.
    """
    if not any(((image.mask > 0) & (image.mask != IGNORE)).any() for image in seen_by[plain.flips]):
        return [(np.nan, plain)]  # nothing to choose by
    tried: list[Choice] = []
    for flips, seen in seen_by.items():
        start = replace(plain, flips=flips)
        tried.append((_dice_of(seen, start), start))
        if asked.threshold and len(seen[0].levels) == 1:
            best = best_threshold(_histograms(seen), plain.threshold)
            start = replace(start, threshold=best)
            tried.append((_dice_of(seen, start), start))
        for largest in (False, True) if asked.largest else (False,):
            for min_size in (0, *asked.min_sizes):
                rule = replace(start, largest=largest, min_size=min_size)
                if rule.cleans:
                    tried.append((_dice_of(seen, rule), rule))
    # Sorting is stable: what was tried first, and interferes less, stays ahead of its equals.
    return sorted(tried, key=lambda choice: -choice[0])


def best_threshold(histograms: Histogram, plain: float) -> float:
    """The threshold with the highest mean dice per image; the nearest to `plain` of equals.

    Args:
        histograms: (N, 1, 2, 256).
        plain: a probability.
    """
    scores = counts.dice(counts_at(histograms)[:, 0])
    means = _seen_to_be_empty(scores).mean(axis=0)
    best = np.flatnonzero(means >= means.max() - 1e-12) / LEVELS
    return float(best[np.abs(best - plain).argmin()])


def _histograms(seen: Iterable[Seen]) -> Histogram:
    return np.stack([histogram(image.levels, image.mask) for image in seen])


def _dice_of(seen: Sequence[Seen], rule: Rule) -> float:
    scores: list[float] = []
    for image in seen:
        one = len(image.levels) == 1
        pred = decide(image.levels, rule.threshold) if one else image.pred_mask
        num_classes = max(2, len(image.levels))
        cells, _ = counts.count_image(clean(pred, rule, 1.0), image.mask, num_classes)
        scores.append(float(counts.per_image(cells, counts.dice)))
    return float(_seen_to_be_empty(np.array(scores)).mean())


def _seen_to_be_empty(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in which an empty image that is seen to be empty counts as right.

    Rules are compared on the same images; left out, it would pay to find something there.
    """
    return np.where(np.isnan(scores), 1.0, scores)
