"""Masks from probabilities by a rule, at the network's size or at an image's own.

With NumPy and OpenCV alone: a served model takes this along.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.images import LEVELS, Pixels, most_probable

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class MaskRule:
    """How probabilities become masks.

    Attributes:
        threshold: minimum foreground probability, of one class against the background.
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


def binarise(probs_u8: Pixels | Floats, threshold: float) -> Pixels:
    """Class ids (H, W) of the foreground's probabilities times 256, see `on_device.to_probs_u8`."""
    return (probs_u8 >= threshold * LEVELS).astype(np.uint8)


def enlarge(channel: Pixels, height: int, width: int) -> NDArray[np.float32]:
    """Resize probabilities (H, W) to (height, width) by linear interpolation."""
    return cv2.resize(
        channel.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
    ).astype(np.float32, copy=False)


def enlarged_classes(probs_u8: Pixels, height: int, width: int) -> Pixels:
    """Most probable classes (height, width) of probabilities (C, H, W), resized one at a time."""
    return most_probable(enlarge(channel, height, width) for channel in probs_u8)


def remove_components(mask: Pixels, rule: MaskRule, scale: float, background: int | None) -> Pixels:
    """Turn the components that a rule removes into background.

    Args:
        mask: (H, W) class ids.
        rule: what to remove; components are 8-connected.
        scale: pixels of this mask per pixel of the network's; `min_size` is multiplied by it.
        background: its class id; params without one have no rule that removes anything.

    Returns:
        (H, W) class ids; the same array if the rule removes nothing.
    """
    if not rule.removes_components:
        return mask
    assert background is not None
    cleaned = np.full_like(mask, background)
    for class_id in np.unique(mask[mask != background]):
        own = (mask == class_id).view(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA].copy()
        areas[0] = 0  # what is not of the class
        keeps = areas >= max(1.0, rule.min_size * scale)
        if rule.largest:
            keeps &= np.arange(len(areas)) == areas.argmax()
        cleaned[keeps[labels]] = class_id
    return cleaned
