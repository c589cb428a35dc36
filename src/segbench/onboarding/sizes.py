"""The size of the network's input that loses no object of a sample of masks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from segbench.images import IGNORE, Pixels, count_values

SIZES = (64, 96, 128, 192, 256, 384, 512)
"""Longer sides that are tried."""
PATCHES = (2048, 1024, 512)
"""Sides of patches that are tried where none of these does."""
STEP, SMALLEST = 32, 64
# Smaller components are specks of the pen, no objects: in pixels, and as a share of the image.
LEAST_PIXELS, LEAST_SHARE = 9, 2e-6
# Of its foreground, what a mask keeps at least.
LEAST_KEPT = 0.5


@dataclass(frozen=True)
class NetworkSize:
    """A size of the network's input.

    Attributes:
        height, width: multiples of 32.
        patch: side of the patches that images are cut into; 0: whole images.
        lost: masks of the sample that lose an object all the same.
        smaller: the next smaller size that was tried and how many masks lose an object there, in
            words; empty if none was.
    """

    height: int
    width: int
    patch: int
    lost: int
    smaller: str


@dataclass
class SizeTrial:
    """Counts the masks that lose an object at each size; masks come one after another."""

    shapes: list[tuple[int, int]] = field(default_factory=list)
    _lost: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SIZES, 0))
    _lost_in_patches: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PATCHES, 0))

    def add(self, mask: Pixels) -> None:
        """Try a mask, (H, W) class ids, at all sizes."""
        height, width = mask.shape
        self.shapes.append((height, width))
        scales = {size: size / max(height, width) for size in SIZES}
        scales |= {-patch: SIZES[-1] / patch for patch in PATCHES}
        sizes = {
            key: (max(1, round(height * scale)), max(1, round(width * scale)))
            for key, scale in scales.items()
        }
        for key, loses in zip(sizes, losses(mask, list(sizes.values())), strict=True):
            if key > 0:
                self._lost[key] += loses
            else:
                self._lost_in_patches[-key] += loses

    def merge(self, other: "SizeTrial") -> None:
        """Add what another trial has counted."""
        self.shapes += other.shapes
        for counts, others in (
            (self._lost, other._lost),
            (self._lost_in_patches, other._lost_in_patches),
        ):
            for size, lost in others.items():
                counts[size] += lost

    def choose(self) -> NetworkSize:
        """The smallest size at which no mask loses an object; patches where there is none."""
        heights, widths = np.array(self.shapes).T
        ratio = float(np.median(heights / widths))
        for before, size in zip((0, *SIZES), SIZES, strict=False):
            if not self._lost[size] or size >= max(heights.max(), widths.max()):
                height, width = _sides(size, ratio)
                return NetworkSize(height, width, 0, self._lost[size], self._said(before))
        side = int(min(heights.min(), widths.min()))
        fitting = [patch for patch in PATCHES if patch <= side]
        for patch in fitting:
            if not self._lost_in_patches[patch] or patch == PATCHES[-1]:
                lost = self._lost_in_patches[patch] if patch > SIZES[-1] else 0
                return NetworkSize(SIZES[-1], SIZES[-1], patch, lost, self._said(SIZES[-1]))
        height, width = _sides(SIZES[-1], ratio)
        return NetworkSize(height, width, 0, self._lost[SIZES[-1]], self._said(SIZES[-2]))

    def _said(self, size: int) -> str:
        lost = self._lost.get(size, 0)
        return f"at {size} {lost} of {len(self.shapes)} masks lose an object" if lost else ""


def _sides(longer: int, ratio: float) -> tuple[int, int]:
    """Height and width, multiples of 32, of about a ratio of height to width."""
    shorter = round(longer * min(ratio, 1 / ratio) / STEP) * STEP
    shorter = min(longer, max(SMALLEST, shorter))
    return (longer, shorter) if ratio > 1 else (shorter, longer)


def losses(mask: Pixels, sizes: Sequence[tuple[int, int]]) -> list[bool]:
    """Does nearest-neighbour resizing lose an object, or over half of the foreground?

    Objects are connected components of one class; specks of the pen are none.

    Args:
        mask: (H, W) class ids.
        sizes: height and width to try.
    """
    least = max(LEAST_PIXELS, LEAST_SHARE * mask.size)
    grids = [
        tuple((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(*pair, strict=True))
        for pair in ((size, mask.shape) for size in sizes)
    ]
    loses, kept, total = [False] * len(sizes), np.zeros(len(sizes)), 0
    for class_id in np.flatnonzero(count_values(mask)).tolist():
        if class_id in (0, IGNORE):
            continue
        _, labels, stats, _ = cv2.connectedComponentsWithStats((mask == class_id).view(np.uint8))
        areas = stats[:, cv2.CC_STAT_AREA]
        objects = np.flatnonzero(areas >= least)
        objects = objects[objects > 0]
        total += int(areas[objects].sum())
        for at, (down, right) in enumerate(grids):
            left = np.bincount(labels[down][:, right].ravel(), minlength=len(areas))[objects]
            loses[at] |= bool((left == 0).any())
            kept[at] += left.sum() * mask.size / (len(down) * len(right))
    return [
        lost or bool(share < LEAST_KEPT * total) for lost, share in zip(loses, kept, strict=True)
    ]
