"""Duplicates: samples that show the same, equal or nearly so, turned, mirrored or drawn on."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segbench.datasets.canonical import read_thumbnails
from segbench.images import Pixels, read_pixels
from segbench.parallel import thread_map

Pairs = NDArray[np.int64]
"""(P, 2) of rows of samples.csv, the lower first."""

Hashes = NDArray[np.uint64]
"""(N,) signs of 8 x 8 low frequencies, a bit each."""

HASH_SIZE = 8
# Bits in which the hashes of a candidate may differ. Of turned images only copies are looked for,
# not the next frame of a video.
UPRIGHT_BITS, TURNED_BITS = 15, 7
# The mean of a smaller dataset says nothing of what its images have in common.
FEWEST_FOR_MEAN = 32
# What must be left of the correlation when the dataset's mean image is taken away, so that images
# do not count as similar for their vignette, frame or page layout only.
LEAST_BEYOND_MEAN = 0.7
# Thumbnails that spread less (of 255) show nothing, so that nothing can be said of them.
LEAST_SPREAD = 3.0
# Thumbnails compared at a time, so that memory does not grow with their number: 2 MB as floats.
CHUNK = 1 << 7
# Candidates whose thumbnails are compared in each orientation.
MOST_COMPARED = 300_000
# Pairs of hashes that are compared at a time: half a megabyte of them, as caches hold.
COMPARED_AT_ONCE = 1 << 16
# An annotated copy: this share of a thumbnail, and of the whole image, is as it was.
SAME_OF_THUMBNAIL, SAME_OF_IMAGE = 0.6, 0.8
SAME_WITHIN, DRAWN_FROM = 8, 40
LEAST_DRAWN = 0.0005
MOST_DECODED = 500
"""Pairs of images that are decoded to look for annotated copies."""


@dataclass(frozen=True)
class Duplicates:
    """Pairs of samples that show the same, wherever they are split to.

    Attributes:
        exact: pairs of equal pixels; of a larger set of equals, each with the first.
        near: pairs of nearly equal thumbnails, also turned or mirrored; without those in `exact`.
        correlation: (P,) of the thumbnails of `near`.
        turned: (P,) bool, True where one of `near` is turned or mirrored.
        annotated: pairs of which one has something drawn on it.
        neighbours: pairs of which one continues the other.
        blank: samples whose thumbnails show nothing and were not compared.
        unseen: candidates, the least similar ones, that were not compared, there being too many.
    """

    exact: Pairs
    near: Pairs
    correlation: NDArray[np.float32]
    turned: NDArray[np.bool_]
    annotated: Pairs
    neighbours: Pairs
    blank: int
    unseen: int


def find_duplicates(
    dataset: Path,
    samples: pd.DataFrame,
    measures: pd.DataFrame,
    near_duplicate: float,
    within_groups: bool = True,
) -> Duplicates:
    """Find samples of a canonical dataset that show the same.

    Args:
        dataset: its folder.
        samples, measures: its tables.
        near_duplicate: correlation of thumbnails from which two samples are near duplicates.
        within_groups: also compare samples of one group, which a split by group never parts. A
            video from a camera that stands still has millions of such pairs.
    """
    thumbnails = read_thumbnails(dataset)
    assert len(thumbnails) == len(samples)
    exact = _equal(measures["image_sha256"].to_numpy(str))
    parts = (thumbnails[start : start + CHUNK] for start in range(0, len(thumbnails), CHUNK))
    seen = np.concatenate([part.std(axis=(1, 2, 3)) for part in parts]) >= LEAST_SPREAD
    # Of equal images, only the first is compared with others.
    seen[exact[:, 1]] = False
    rows = np.flatnonzero(seen)
    groups = samples["group"].to_numpy(str)
    _, group_of = np.unique(groups[rows], return_inverse=True)
    looked_at = thumbnails if len(rows) == len(thumbnails) else thumbnails[rows]
    found = _near(looked_at, near_duplicate, None if within_groups else group_of)
    candidates = rows[found.drawn]
    annotated, unseen = _annotated(dataset, samples["image"], candidates)
    drawn_on = set(map(tuple, annotated.tolist()))
    near = rows[found.pairs]
    plain = np.array([tuple(pair) not in drawn_on for pair in near.tolist()], bool)
    index = {id: at for at, id in enumerate(samples["id"])}
    follows = [
        sorted((at, index[previous]))
        for at, previous in enumerate(samples["previous"])
        if previous in index
    ]
    return Duplicates(
        exact=exact,
        near=near[plain],
        correlation=found.correlation[plain],
        turned=found.turned[plain],
        annotated=annotated,
        neighbours=np.array(follows, np.int64).reshape(-1, 2),
        blank=int(len(thumbnails) - len(exact) - len(rows)),
        unseen=unseen + found.uncompared,
    )


def merge_duplicates(samples: pd.DataFrame, duplicates: Duplicates) -> pd.Series:
    """Groups of samples, united where samples of two show the same; named by the first of them."""
    names, group_of = np.unique(samples["group"].to_numpy(str), return_inverse=True)
    links = group_of[np.concatenate([duplicates.exact, duplicates.near, duplicates.annotated])]
    graph = coo_array((np.ones(len(links)), links.T), shape=(len(names), len(names)))
    _, united = connected_components(graph, directed=False)
    _, first = np.unique(united, return_index=True)
    return pd.Series(names[first[united[group_of]]], index=samples.index)


def _equal(hashes: NDArray[np.str_]) -> Pairs:
    """Each sample whose hash was there before, with the first that had it."""
    _, first, index = np.unique(hashes, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[index] != np.arange(len(hashes)))
    return np.stack([first[index[again]], again], axis=1).astype(np.int64)


@dataclass(frozen=True)
class _Found:
    pairs: Pairs
    correlation: NDArray[np.float32]
    turned: NDArray[np.bool_]
    drawn: Pairs
    uncompared: int


def perceptual_hash(thumbnails: NDArray[np.float32]) -> Hashes:
    """Signs of the low frequencies of grey thumbnails, the constant one aside: a pHash.

    Args:
        thumbnails: (N, H, W), of any brightness.

    Returns:
        (N,), 64 bits each.
    """
    low = dctn(thumbnails, axes=(1, 2))[:, :HASH_SIZE, :HASH_SIZE].reshape(len(thumbnails), -1)
    low[:, 0] = 0
    return np.packbits(low > 0, axis=1).view(np.uint64)[:, 0]


def _near(thumbnails: Pixels, least: float, group_of: NDArray[np.int64] | None = None) -> _Found:
    """Pairs of thumbnails, of different groups if these are given, that show the same.

    That is, that correlate, or agree in most of their area.

    Candidates have hashes of few different bits, in one of eight orientations; the hash is of what
    is left when the mean of all thumbnails is taken away.
    """
    many = len(thumbnails) >= FEWEST_FOR_MEAN
    mean = np.zeros(thumbnails.shape[1:], np.float32)
    if many:
        mean += thumbnails.mean(axis=0)
    upright = _hashes(thumbnails, mean, 0)
    pairs, correlations, turned, drawn, drawn_same = [], [], [], [], []
    uncompared = 0
    for orientation in range(8):
        most = TURNED_BITS if orientation else UPRIGHT_BITS
        hashes = _hashes(thumbnails, mean, orientation) if orientation else upright
        found, bits = near_hashes(upright, hashes, most, group_of)
        # A quarter turn back is another one, but upright both ways round are the same.
        wanted = found[:, 0] != found[:, 1] if orientation else found[:, 0] < found[:, 1]
        found, bits = found[wanted], bits[wanted]
        if len(found) > MOST_COMPARED:
            uncompared += len(found) - MOST_COMPARED
            found = found[np.argsort(bits, kind="stable")[:MOST_COMPARED]]
        for start in range(0, len(found), CHUNK):
            rows = found[start : start + CHUNK]
            first = thumbnails[rows[:, 0]].astype(np.float32)
            second = _turn(thumbnails[rows[:, 1]], orientation).astype(np.float32)
            correlation = _correlation(first, second)
            ok = correlation >= least
            if many:
                ok &= _correlation(first - mean, second - mean) >= LEAST_BEYOND_MEAN
            pairs.append(np.sort(rows[ok], axis=1))
            correlations.append(correlation[ok])
            turned.append(np.full(np.count_nonzero(ok), orientation > 0))
            if orientation == 0:
                same = (np.abs(first - second).max(axis=-1) <= SAME_WITHIN).mean(axis=(1, 2))
                drawn.append(rows[same >= SAME_OF_THUMBNAIL])
                drawn_same.append(same[same >= SAME_OF_THUMBNAIL])
    nothing = np.zeros((0, 2), np.int64)
    all_pairs = np.concatenate([nothing, *pairs])
    # Of a pair that is similar in several orientations, the first, which is upright if one is.
    _, once = np.unique(all_pairs, axis=0, return_index=True)
    most_similar_first = np.argsort(-np.concatenate([np.zeros(0), *drawn_same]), kind="stable")
    return _Found(
        pairs=all_pairs[once],
        correlation=np.concatenate([np.zeros(0, np.float32), *correlations])[once],
        turned=np.concatenate([np.zeros(0, bool), *turned])[once],
        drawn=np.concatenate([nothing, *drawn])[most_similar_first],
        uncompared=uncompared,
    )


def _hashes(thumbnails: Pixels, mean: NDArray[np.float32], orientation: int) -> Hashes:
    """Hashes of turned thumbnails; what all have in common does not turn with one of them."""
    hashes = np.zeros(len(thumbnails), np.uint64)
    for start in range(0, len(thumbnails), CHUNK):
        part = _turn(thumbnails[start : start + CHUNK], orientation) - mean
        hashes[start : start + CHUNK] = perceptual_hash(part.mean(axis=-1))
    return hashes


def _turn(images: Pixels, orientation: int) -> Pixels:
    """One of the eight ways to turn and mirror (N, H, W, C)."""
    turned = np.rot90(images, orientation % 4, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if orientation >= 4 else turned)


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(P,) of (P, H, W, C), over all pixels and colours."""
    flat = [part.reshape(len(part), -1) for part in (first, second)]
    flat = [part - part.mean(axis=1, keepdims=True) for part in flat]
    norms = np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
    return np.einsum("pf,pf->p", *flat) / np.maximum(norms, 1e-6)


def near_hashes(
    hashes: Hashes, queries: Hashes, most: int, group_of: NDArray[np.int64] | None = None
) -> tuple[Pairs, NDArray[np.uint8]]:
    """Compare every hash with every query, some rows of hashes at a time.

    Args:
        hashes: (N,).
        queries: (N,), with the same numbers.
        most: bits in which a pair may differ.
        group_of: (N,) of each number, to leave out pairs of one group; None keeps them.

    Returns:
        (P, 2) numbers of a hash and a query, in their order; (P,) the bits in which they differ.
    """
    pairs, bits = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.uint8)]
    rows = max(1, COMPARED_AT_ONCE // max(1, len(queries)))
    for start in range(0, len(hashes), rows):
        differ = np.bitwise_count(hashes[start : start + rows, None] ^ queries)
        first, second = np.nonzero(differ <= most)
        if group_of is not None:
            other = group_of[start + first] != group_of[second]
            first, second = first[other], second[other]
        pairs.append(np.stack([start + first, second], axis=1))
        bits.append(differ[first, second])
    return np.concatenate(pairs), np.concatenate(bits)


def _annotated(dataset: Path, paths: pd.Series, candidates: Pairs) -> tuple[Pairs, int]:
    """Pairs of images that are equal but for something drawn on one; and how many were not seen."""
    looked_at = candidates[:MOST_DECODED]

    def work(pair: NDArray[np.int64]) -> bool:
        first, second = (read_pixels(dataset / paths.iloc[at]) for at in pair)
        return is_annotated(first, second)

    found = [*thread_map(work, list(looked_at), "annotated copies", len(looked_at))]
    return looked_at[np.array(found, bool)], len(candidates) - len(looked_at)


def is_annotated(first: Pixels, second: Pixels) -> bool:
    """Are two images equal but for something drawn or written on one of them?"""
    if first.shape != second.shape:
        return False
    difference = cv2.absdiff(first, second)
    if difference.ndim == 3:
        difference = difference.max(axis=2)
    same = float((difference <= SAME_WITHIN).mean())
    drawn = float((difference >= DRAWN_FROM).mean())
    # What is drawn differs by much; a video's next frame differs by a little almost everywhere.
    return same >= SAME_OF_IMAGE and drawn >= LEAST_DRAWN and drawn >= 0.2 * (1 - same)
