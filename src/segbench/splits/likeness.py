"""How alike two images are: the correlation of their detail, once one is laid upon the other.

Detail is what is left of a grey image when what is smooth is taken away, at equal contrast
everywhere, so that brightness, contrast and illumination do not count. What all images of the set
have in common is taken away too. It is compared at two scales: of thumbnails, and of the images at
`FINE_SIZE`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.stats import norm

from segbench.images import Pixels, resize_image
from segbench.splits.candidates import Floats, turn

FINE_SIZE = 128
"""Pixels of a side to which images are brought for the finer scale."""
# Standard deviations of the two Gaussians between which detail lies, in pixels of a thumbnail, and
# of an image of `FINE_SIZE`; and the contrast, of 255, below which it is noise.
COARSE, FINE = (0.0, 3.0), (1.0, 3.0)
LEAST_CONTRAST = 4.0
# The mean of fewer images says nothing of what the set has in common.
FEWEST_FOR_MEAN = 8
# A pair as alike as this needs no alignment.
ALIGNED = 0.9
# How much of the image must overlap, and by how much its area may change.
LEAST_OVERLAP, MOST_SCALED = 0.6, 1.7
# Most steps of an alignment, and the gain that ends it.
STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 3e-3)

Warp = Floats
"""(2, 3): an affine map of pixels of the first image to those of the second."""


class Detail:
    """Detail of the images of a set at one scale, without what they have in common.

    Args:
        read: detail (H, H) of an image by its row.
        rows: of the images whose mean is what the set has in common.
    """

    def __init__(self, read: Callable[[int], Floats], rows: list[int]) -> None:
        self._read = read
        self._averaged = set(rows) if len(rows) >= FEWEST_FOR_MEAN else set()
        self._sum = np.zeros((1, 1), np.float32)
        for row in self._averaged:
            self._sum = self._sum + read(row)

    def likeness(
        self, pair: tuple[int, int, int], start: Warp, align: bool = True
    ) -> tuple[float, Warp]:
        """Correlation of the detail of two images, from -1 to 1, and how they were aligned.

        Args:
            pair: rows of the images, and the orientation in which to compare the second.
            start: from which the alignment sets out.
            align: False leaves it at that.
        """
        first, second, orientation = pair
        one, other = self._read(first), self._read(second)
        # Without the two themselves, which would else seem less like each other than they are.
        own = [detail for row, detail in ((first, one), (second, other)) if row in self._averaged]
        number = max(1, len(self._averaged) - len(own))
        common = ((self._sum - sum(own, np.zeros_like(one))) / number).astype(np.float32)
        other = turn(other, orientation)
        if not align:
            return _laid(one, other, common, start), start
        return _aligned(one, other, common, start)


def _aligned(one: Floats, other: Floats, common: Floats, start: Warp) -> tuple[float, Warp]:
    found = _laid(one, other, common, start)
    if found >= ALIGNED:
        return found, start
    try:
        _, warp = cv2.findTransformECC(
            one, other, start.copy(), cv2.MOTION_AFFINE, STEPS, None, gaussFiltSize=3
        )
    except cv2.error:  # there is no way to lay one upon the other
        return found, start
    if not 1 / MOST_SCALED < abs(float(np.linalg.det(warp[:, :2]))) < MOST_SCALED:
        return found, start
    again = _laid(one, other, common, warp)
    return (again, warp) if again > found else (found, start)


def _laid(one: Floats, other: Floats, common: Floats, warp: Warp) -> float:
    """Correlation where the second lies upon the first; -1 where that is little of it."""
    how, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (one.shape[1], one.shape[0])
    inside = cv2.warpAffine(np.ones_like(other), warp, size, flags=how) > 0.99
    if inside.mean() < LEAST_OVERLAP:
        return -1.0
    laid = cv2.warpAffine(other, warp, size, flags=how)
    return _correlation((one - common)[inside], (laid - common)[inside])


def _correlation(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    norms = math.sqrt(float((one * one).sum()) * float((other * other).sum()))
    return float((one * other).sum()) / max(norms, 1e-6)


def unmoved() -> Warp:
    """The map that leaves every pixel where it is."""
    return np.eye(2, 3, dtype=np.float32)


def enlarged(warp: Warp, factor: float) -> Warp:
    """The same map, of images that are `factor` times as large."""
    # Pixel 0 of a small image lies at (factor - 1) / 2 of the large one.
    centre = (factor - 1) / 2
    linear = warp[:, :2]
    moved = factor * warp[:, 2] + centre - linear @ np.full(2, centre)
    return np.hstack([linear, moved[:, None]]).astype(np.float32)


def coarse_detail(thumbnail: Pixels) -> Floats:
    """(H, W) of a thumbnail (H, W, C)."""
    return _detail(thumbnail.mean(axis=-1, dtype=np.float32), *COARSE)


def fine_detail(image: Pixels) -> Floats:
    """(128, 128) of an image (H, W) or (H, W, C)."""
    how = cv2.INTER_AREA if min(image.shape[:2]) >= FINE_SIZE else cv2.INTER_LINEAR
    small = resize_image(image, FINE_SIZE, FINE_SIZE, how)
    grey = small.reshape(FINE_SIZE, FINE_SIZE, -1).mean(axis=-1, dtype=np.float32)
    return _detail(grey, *FINE)


def _detail(grey: Floats, finest: float, coarsest: float) -> Floats:
    sharp = cv2.GaussianBlur(grey, (0, 0), finest) if finest else grey
    detail = sharp - cv2.GaussianBlur(grey, (0, 0), coarsest)
    contrast = cv2.GaussianBlur(detail * detail, (0, 0), coarsest)
    return np.asarray(detail / np.sqrt(contrast + LEAST_CONTRAST**2))


@dataclass(frozen=True)
class Background:
    """How alike different groups of this set are.

    Attributes:
        typical: the likeness that half of the pairs of different groups exceed.
        high: that which one in a hundred exceeds.
        limit: that which fewer than one pair of the whole set may be expected to reach by chance.
        drawn: pairs that this was measured on.
    """

    typical: float
    high: float
    limit: float
    drawn: int


NO_BACKGROUND = Background(0.0, 0.0, 0.0, 0)
# Fewer pairs say nothing of how alike different groups are.
FEWEST_DRAWN = 10
QUANTILES = (0.9, 0.97, 0.99)
MOST_LIMIT = 0.9
"""The likeness that counts however alike different groups are."""


def background_of(likeness: Floats, pairs: int, least: float) -> Background:
    """What is chance among `pairs` pairs, if some drawn ones have these likenesses.

    Fisher's z of correlations is taken to be normal above its median, as wide as three quantiles
    say.

    Args:
        likeness: (P,) of pairs of different groups.
        pairs: of different groups in the whole set.
        least: likeness from which a drawn pair is taken for a duplicate, which is no chance.
    """
    if len(likeness) < FEWEST_DRAWN:
        return NO_BACKGROUND
    typical, high = (float(value) for value in np.quantile(likeness, (0.5, 0.99)))
    chance = likeness[likeness < least]
    if len(chance) < len(likeness) / 2:
        # All show one scene, of which only copies are more alike.
        return Background(typical, high, MOST_LIMIT, len(likeness))
    z = np.arctanh(np.maximum(chance, -0.999))
    middle = np.median(z)
    spread = np.median([(np.quantile(z, share) - middle) / norm.ppf(share) for share in QUANTILES])
    limit = math.tanh(middle + float(norm.isf(min(0.5, 1 / max(pairs, 1))) * spread))
    return Background(typical, high, min(limit, MOST_LIMIT), len(likeness))
