"""Near duplicates: pairs far more alike than different groups of this very set are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from segbench.images import Pixels
from segbench.parallel import thread_map
from segbench.splits.candidates import (
    CoarseStructure,
    Floats,
    Orientations,
    Pairs,
    best_orientations,
    find_candidates,
)
from segbench.splits.likeness import (
    FINE_SIZE,
    NO_BACKGROUND,
    Background,
    Detail,
    background_of,
    coarse_detail,
    enlarged,
    fine_detail,
    unmoved,
)

# Candidates that are laid upon each other: so many, and so many more for each image.
FEWEST_ALIGNED, ALIGNED_PER_IMAGE = 1500, 3
MOST_DECODED = 3000
"""Pairs whose images are decoded, the most alike thumbnails first."""
# Images that tell what the set has in common, and pairs of them how alike different groups are.
NUM_SAMPLED, NUM_DRAWN = 200, 200
NUM_AVERAGED = 2000
"""Thumbnails that tell what the set has in common."""
# How much more alike than their thumbnails images may be.
MOST_GAINED = 0.15
MOST_UNSEEN = 0.8
"""Likeness of the coarse structure below which it is no loss that a pair is not compared."""
# Pairs below the limit that are returned to be looked at: how many, and how alike.
RUNNERS_UP, LEAST_SHOWN = 4, 0.5
LEAST_ALIGNED = 0.4
"""Likeness of thumbnails below which their images are not aligned more closely."""
CHUNK = 64
"""Pairs that a thread compares at a time."""

Triple = tuple[int, int, int]
"""Rows of two images, and the orientation of the second."""


@dataclass(frozen=True)
class Near:
    """Pairs that show nearly the same.

    Attributes:
        pairs: rows of thumbnails, the most alike first; those that count, then the runners-up.
        likeness: (P,) of pairs, see `likeness.py`.
        orientation: (P,) in which the second was compared.
        count: how many of them count.
        limit: likeness from which pairs of different groups count.
        background: how alike different groups are.
        left_out: candidates that were not compared, the least alike ones of very many.
        upright: pairs of different groups whose coarse structure is alike as they are.
    """

    pairs: Pairs
    likeness: Floats
    orientation: Orientations
    count: int
    limit: float
    background: Background
    left_out: int
    upright: Pairs


def find_near_duplicates(
    thumbnails: Pixels,
    read: Callable[[int], Pixels],
    least: float,
    group_of: NDArray[np.int64],
    within_groups: bool,
) -> Near:
    """Find pairs that show nearly the same, also turned, mirrored, cropped a little or brightened.

    Pairs of one group, as consecutive frames of a video, are told by their thumbnails; those of
    different groups must be more alike than chance explains, in the images too.

    Args:
        thumbnails: (N, H, H, C).
        read: gives the whole image of a thumbnail, by its row.
        least: likeness below which no pair counts, however different other groups are.
        group_of: (N,) numbers of the groups.
        within_groups: also compare images of one group.
    """
    if not len(thumbnails):
        nothing = np.zeros(0, np.float32)
        pairs = np.zeros((0, 2), np.int64)
        return Near(pairs, nothing, nothing.astype(np.uint8), 0, least, NO_BACKGROUND, 0, pairs)
    structure = CoarseStructure(thumbnails)
    most = FEWEST_ALIGNED + ALIGNED_PER_IMAGE * len(thumbnails)
    found = find_candidates(structure, most, None if within_groups else group_of)
    comparison = _Comparison(thumbnails, read)
    background = _background(structure, comparison, group_of, least)
    limit = max(least, background.limit)
    pairs, orientation = found.pairs, found.orientation
    likeness = comparison.coarse(pairs, orientation)
    apart = group_of[pairs[:, 0]] != group_of[pairs[:, 1]]
    decoded = np.flatnonzero(apart & (likeness >= limit - MOST_GAINED))
    decoded = decoded[np.argsort(-likeness[decoded], kind="stable")]
    left_out = max(0, len(decoded) - MOST_DECODED)
    if len(pairs) == most and found.cosine[-1] > MOST_UNSEEN:
        left_out += found.left_out
    decoded = decoded[:MOST_DECODED]
    confirmed = np.where(apart, -1, likeness).astype(np.float32)
    confirmed[decoded] = comparison.whole(pairs[decoded], orientation[decoded])
    counts = confirmed >= np.where(apart, limit, least)
    order = np.argsort(-confirmed, kind="stable")
    order = np.concatenate([order[counts[order]], _runners_up(order, confirmed, counts, apart)])
    return Near(
        pairs=pairs[order],
        likeness=confirmed[order],
        orientation=orientation[order],
        count=int(counts.sum()),
        limit=limit,
        background=background,
        left_out=left_out,
        upright=pairs[apart & (orientation == 0)],
    )


def _runners_up(
    order: NDArray[np.int64],
    likeness: Floats,
    counts: NDArray[np.bool_],
    apart: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """The most alike pairs of different groups that do not count."""
    below = order[(apart & ~counts & (likeness >= LEAST_SHOWN))[order]]
    return below[:RUNNERS_UP]


class _Comparison:
    """Compares images, at one scale or both."""

    def __init__(self, thumbnails: Pixels, read: Callable[[int], Pixels]) -> None:
        self.rows = [int(row) for row in _spread(len(thumbnails), NUM_SAMPLED)]
        self._coarse = Detail(
            lambda row: coarse_detail(thumbnails[row]),
            [int(row) for row in _spread(len(thumbnails), NUM_AVERAGED)],
        )
        self._scale = FINE_SIZE / thumbnails.shape[1]
        self._read = lru_cache(NUM_SAMPLED)(lambda row: fine_detail(read(row)))

    @cached_property
    def _fine(self) -> Detail:
        for _ in thread_map(self._read, self.rows, "what images have in common", len(self.rows)):
            pass
        return Detail(self._read, self.rows)

    def coarse(self, pairs: Pairs, orientation: Orientations) -> Floats:
        """(P,) likeness of thumbnails."""

        def work(pair: Triple) -> float:
            return self._coarse.likeness(pair, unmoved())[0]

        return _map(work, pairs, orientation, "thumbnails compared")

    def whole(self, pairs: Pairs, orientation: Orientations) -> Floats:
        """(P,) mean likeness of thumbnails and images."""
        if not len(pairs):
            return np.zeros(0, np.float32)
        fine = self._fine

        def work(pair: Triple) -> float:
            coarse, warp = self._coarse.likeness(pair, unmoved())
            warp = enlarged(warp, self._scale)
            return (coarse + fine.likeness(pair, warp, align=coarse >= LEAST_ALIGNED)[0]) / 2

        return _map(work, pairs, orientation, "images compared")


def _map(
    work: Callable[[Triple], float], pairs: Pairs, orientation: Orientations, what: str
) -> Floats:
    """`work` of first, second and orientation of each pair, by threads."""
    items: list[Triple] = [*map(tuple, np.column_stack([pairs, orientation]).tolist())]
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    found = thread_map(lambda chunk: [work(item) for item in chunk], chunks, what, len(chunks))
    return np.array([one for chunk in found for one in chunk], np.float32)


def _background(
    structure: CoarseStructure,
    comparison: _Comparison,
    group_of: NDArray[np.int64],
    least: float,
) -> Background:
    """How alike images of different groups are, by some of them."""
    rows = np.array(comparison.rows)
    drawn = np.random.default_rng(0).choice(rows, (4 * NUM_DRAWN, 2))
    drawn = np.sort(drawn[group_of[drawn[:, 0]] != group_of[drawn[:, 1]]], axis=1)
    _, once = np.unique(drawn, axis=0, return_index=True)
    drawn = drawn[np.sort(once)[:NUM_DRAWN]]
    likeness = comparison.whole(drawn, best_orientations(structure, drawn))
    number, sizes = len(group_of), np.bincount(group_of)
    apart = (number**2 - int((sizes.astype(np.int64) ** 2).sum())) // 2
    return background_of(likeness, apart, least)


def _spread(number: int, most: int) -> NDArray[np.int64]:
    """Rows evenly spread over all."""
    return np.unique(np.linspace(0, max(number - 1, 0), min(number, most)).astype(np.int64))
