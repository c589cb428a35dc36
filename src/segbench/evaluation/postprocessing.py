"""Post-processing: probabilities to masks, and selection of the best rule on validation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.evaluation.predict import Prediction
from segbench.images import IGNORE, Pixels
from segbench.metrics import counts
from segbench.metrics.probabilities import LEVELS, Histogram, counts_at, histogram
from segbench.params.evaluate import Choose


@dataclass(frozen=True)
class MaskRule:
    """How probabilities become masks.

    Attributes:
        threshold: minimum foreground probability, if there is one foreground class.
        min_size: smaller components become background; in pixels at the network's size.
        largest: keep only the largest component of each class.
        flips: average logits over an image and its three mirror images.
    """

    threshold: float
    min_size: int
    largest: bool
    flips: bool

    @property
    def removes_components(self) -> bool:
        """Whether it can remove components."""
        return self.min_size > 1 or self.largest


def binarise(probs_u8: NDArray[np.uint8] | NDArray[np.float32], threshold: float) -> Pixels:
    """Class ids (H, W) of probabilities times 256, (C, H, W), see `on_device.to_probs_u8`."""
    if len(probs_u8) == 1:
        return (probs_u8[0] >= threshold * LEVELS).astype(np.uint8)
    return probs_u8.argmax(axis=0).astype(np.uint8)


def remove_components(mask: Pixels, rule: MaskRule, scale: float) -> Pixels:
    """Turn the components that a rule removes into background.

    Args:
        mask: (H, W) class ids.
        rule: what to remove; components are 8-connected.
        scale: pixels of this mask per pixel of the network's; `min_size` is multiplied by it.

    Returns:
        (H, W) class ids; the same array if the rule removes nothing.
    """
    if not rule.removes_components:
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


def enlarge(probs_u8: Pixels, height: int, width: int) -> NDArray[np.float32]:
    """Resize probabilities (C, H, W) to (C, height, width) by linear interpolation."""
    return np.stack(
        [
            cv2.resize(channel.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
            for channel in probs_u8
        ]
    )


Choice = tuple[float, MaskRule]
"""Mean dice per image on validation, and the rule that reached it."""


def select_rule(
    default: MaskRule, options: Choose, predictions: Mapping[bool, Sequence[Prediction]]
) -> list[Choice]:
    """Try mask rules on validation images, best first.

    First the threshold, from each image's counts at all 256; then, at that threshold, which
    components to remove; both with and without mirror images if `options` asks for that.

    Args:
        default: the rule to keep unless another is better.
        options: what to try.
        predictions: of the validation images, keyed by whether logits are averaged over flips.

    Returns:
        All rules tried, best first. Ties go to the rule that changes least, and to the threshold
        nearest to the default. Only the default, with NaN, if no image has foreground.
    """
    if not any(
        ((image.mask > 0) & (image.mask != IGNORE)).any() for image in predictions[default.flips]
    ):
        return [(np.nan, default)]  # nothing to select by
    tried: list[Choice] = []
    for flips, images in predictions.items():
        start = replace(default, flips=flips)
        tried.append((_dice_of(images, start), start))
        if options.threshold and len(images[0].probs_u8) == 1:
            best = best_threshold(_histograms(images), default.threshold)
            start = replace(start, threshold=best)
            tried.append((_dice_of(images, start), start))
        for largest in (False, True) if options.largest else (False,):
            for min_size in (0, *options.min_sizes):
                rule = replace(start, largest=largest, min_size=min_size)
                if rule.removes_components:
                    tried.append((_dice_of(images, rule), rule))
    # Sorting is stable: among ties, rules tried earlier, which change less, stay first.
    return sorted(tried, key=lambda choice: -choice[0])


def best_threshold(histograms: Histogram, default: float) -> float:
    """The threshold with the highest mean dice per image; among ties, the nearest to the default.

    Args:
        histograms: (N, 1, 2, 256).
        default: a probability.
    """
    scores = counts.dice(counts_at(histograms)[:, 0])
    means = _with_empty_as_right(scores).mean(axis=0)
    best = np.flatnonzero(means >= means.max() - 1e-12) / LEVELS
    return float(best[np.abs(best - default).argmin()])


def _histograms(images: Iterable[Prediction]) -> Histogram:
    return np.stack([histogram(image.probs_u8, image.mask) for image in images])


def _dice_of(images: Sequence[Prediction], rule: MaskRule) -> float:
    cells = []
    for image in images:
        one = len(image.probs_u8) == 1
        pred = binarise(image.probs_u8, rule.threshold) if one else image.pred_mask
        num_classes = max(2, len(image.probs_u8))
        own, _ = counts.count_image(remove_components(pred, rule, 1.0), image.mask, num_classes)
        cells.append(own)
    every = np.stack(cells)
    scores = counts.per_image(every[:, counts.held_classes(every)], counts.dice)
    return float(_with_empty_as_right(scores).mean())


def _with_empty_as_right(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in which an empty image that is predicted empty counts as 1.

    Rules must be compared on the same images: left out instead, such images would make a false
    positive cheaper than an empty prediction.
    """
    return np.where(np.isnan(scores), 1.0, scores)
