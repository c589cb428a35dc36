"""Pairs of images that may show the same: those whose coarse structure is most alike in this set.

The coarse structure of an image is the low frequencies of its grey thumbnail, at equal brightness
and contrast, each in units of how much it varies over the set. What all images have in common, such
as a vignette or the round field of a retina, so says nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from segbench.images import Pixels

Pairs = NDArray[np.int64]
"""(P, 2) rows of samples.csv or of thumbnails, the lower first."""
Orientations = NDArray[np.uint8]
"""(P,) how an image is turned: transposed (4), then upside down (2), then mirrored (1)."""
Floats = NDArray[np.float32]

NUM_ORIENTATIONS = 8
NUM_FREQUENCIES = 8
# Thumbnails that spread less (of 255) show nothing, so that nothing can be said of them.
LEAST_SPREAD = 3.0
# What a frequency is taken to vary by at least, in units of what all do together.
LEAST_DEVIATION = 0.02
LEAST_COSINE = 0.3
"""Likeness of coarse structure below which two images are no candidates."""
CHUNK = 128
"""Images compared with all others at a time: 25 MB for 50,000 of them."""


@dataclass(frozen=True)
class Candidates:
    """Pairs that may show the same, the most alike first.

    Attributes:
        pairs: rows of thumbnails.
        orientation: in which the second of a pair is most like the first.
        cosine: (P,) between their coarse structures then.
        left_out: how many more reached `LEAST_COSINE`, at the least.
    """

    pairs: Pairs
    orientation: Orientations
    cosine: Floats
    left_out: int


def find_candidates(
    coarse: "CoarseStructure", most: int, group_of: NDArray[np.int64] | None = None
) -> Candidates:
    """The pairs whose coarse structure is most alike, also turned or mirrored.

    Args:
        coarse: of all images.
        most: pairs to return.
        group_of: (N,) to leave out pairs of one group; None keeps them.
    """
    upright = coarse.features(0)
    found = _none()
    waiting: list[Candidates] = []
    least = LEAST_COSINE
    for orientation in range(NUM_ORIENTATIONS):
        turned = coarse.features(orientation) if orientation else upright
        for start in range(0, len(upright), CHUNK):
            cosine = upright[start : start + CHUNK] @ turned[start:].T
            first, second = np.nonzero(cosine >= least)
            wanted = first < second
            if group_of is not None:
                wanted &= group_of[start + first] != group_of[start + second]
            first, second = first[wanted], second[wanted]
            pairs = np.stack([first, second], axis=1) + start
            kind = np.full(len(pairs), orientation, np.uint8)
            waiting.append(Candidates(pairs, kind, cosine[first, second], 0))
            if sum(len(some.pairs) for some in waiting) > 2 * most:
                found, waiting = _best([found, *waiting], most), []
                if len(found.pairs) == most:
                    least = max(least, float(found.cosine[-1]))
    return _best([found, *waiting], most)


def _none() -> Candidates:
    nothing = np.zeros(0, np.float32)
    return Candidates(np.zeros((0, 2), np.int64), nothing.astype(np.uint8), nothing, 0)


def _best(parts: list[Candidates], most: int) -> Candidates:
    """The most alike of all, each in the orientation in which it is most alike."""
    pairs, orientation, cosine = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("pairs", "orientation", "cosine")
    )
    order = np.lexsort([orientation, -cosine])
    _, once = np.unique(pairs[order], axis=0, return_index=True)
    order = order[np.sort(once)]
    left_out = sum(part.left_out for part in parts) + max(0, len(order) - most)
    order = order[:most]
    return Candidates(pairs[order], orientation[order], cosine[order], left_out)


def best_orientations(coarse: "CoarseStructure", pairs: Pairs) -> Orientations:
    """In which orientation the second of each pair is most like the first."""
    first = coarse.features(0)[pairs[:, 0]]
    cosines = [
        np.einsum("pf,pf->p", first, coarse.features(orientation)[pairs[:, 1]])
        for orientation in range(NUM_ORIENTATIONS)
    ]
    return np.argmax(cosines, axis=0).astype(np.uint8)


class CoarseStructure:
    """Low frequencies of thumbnails, and how they vary over the set.

    Args:
        thumbnails: (N, H, H, C).
    """

    def __init__(self, thumbnails: Pixels) -> None:
        shape = (len(thumbnails), NUM_FREQUENCIES, NUM_FREQUENCIES)
        self._low = np.empty(shape, np.float32)
        for start in range(0, len(thumbnails), CHUNK):
            grey = thumbnails[start : start + CHUNK].mean(axis=-1, dtype=np.float32)
            grey -= grey.mean(axis=(1, 2), keepdims=True)
            grey /= np.maximum(grey.std(axis=(1, 2), keepdims=True), LEAST_SPREAD)
            low = dctn(grey, axes=(1, 2), norm="ortho")
            self._low[start : start + CHUNK] = low[:, :NUM_FREQUENCIES, :NUM_FREQUENCIES]
        self._mean, deviation = self._low.mean(axis=0), self._low.std(axis=0)
        least = LEAST_DEVIATION * float(np.sqrt((deviation**2).mean()))
        self._deviation = deviation + max(least, 1e-6)

    def features(self, orientation: int) -> Floats:
        """(N, 64) of length 1, of turned thumbnails; what all have in common does not turn."""
        # Transposed, an image has transposed frequencies; mirrored, the odd ones change their sign.
        sign = np.where(np.arange(NUM_FREQUENCIES) % 2, -1, 1).astype(np.float32)
        low = self._low.transpose(0, 2, 1) if orientation & 4 else self._low
        low = low * (sign[:, None] if orientation & 2 else 1) * (sign if orientation & 1 else 1)
        low = (low - self._mean) / self._deviation
        low[:, 0, 0] = 0
        flat = low.reshape(len(low), -1)
        return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))


def turn(images: Floats, orientation: int) -> Floats:
    """Square images (..., N, N), turned and mirrored as an orientation says."""
    if orientation & 4:
        images = images.swapaxes(-1, -2)
    if orientation & 2:
        images = images[..., ::-1, :]
    if orientation & 1:
        images = images[..., ::-1]
    return np.ascontiguousarray(images)
