"""The size of the network's input that loses no object of a sample of masks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.images import IGNORE, Pixels

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
        labels, areas = _objects(mask)
        for size in SIZES:
            scale = size / max(height, width)
            new = (max(1, round(height * scale)), max(1, round(width * scale)))
            self._lost[size] += _loses(labels, areas, *new)
        for patch in PATCHES:
            scale = SIZES[-1] / patch
            new = (max(1, round(height * scale)), max(1, round(width * scale)))
            self._lost_in_patches[patch] += _loses(labels, areas, *new)

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


def _objects(mask: Pixels) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Connected components of all classes, numbered from 1 in (H, W), and their areas by number.

    Specks are left out: they are 0, as the background is.
    """
    labels = np.zeros(mask.shape, np.int32)
    areas = [0]
    least = max(LEAST_PIXELS, LEAST_SHARE * mask.size)
    for class_id in _classes(mask):
        found = cv2.connectedComponentsWithStats((mask == class_id).view(np.uint8))
        sizes = found[2][:, cv2.CC_STAT_AREA]
        kept = np.flatnonzero(sizes[1:] >= least) + 1
        numbers = np.zeros(len(sizes), np.int32)
        numbers[kept] = np.arange(len(areas), len(areas) + len(kept))
        labels += numbers[found[1]]
        areas += sizes[kept].tolist()
    return labels, np.array(areas)


def _classes(mask: Pixels) -> Iterator[int]:
    for class_id in np.unique(mask).tolist():
        if class_id not in (0, IGNORE):
            yield class_id


def _loses(labels: NDArray[np.int32], areas: NDArray[np.int64], height: int, width: int) -> bool:
    """Does nearest-neighbour resizing lose an object, or over half of the foreground?"""
    down, right = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip((height, width), labels.shape, strict=True)
    )
    counts = np.bincount(labels[down][:, right].ravel(), minlength=len(areas))
    kept = counts[1:].sum() * labels.size / (height * width)
    return bool((counts[1:] == 0).any() or kept < LEAST_KEPT * areas.sum())
