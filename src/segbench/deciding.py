"""From what a network says to a mask: a threshold, and what is cleaned up after it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.images import Pixels
from segbench.metrics.probabilities import LEVELS


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
