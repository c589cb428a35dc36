"""Duplicates: samples that show the same, equal or nearly so, turned, mirrored or drawn on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segbench.datasets.canonical import read_samples, read_table, read_thumbnails
from segbench.images import Pixels, read_pixels
from segbench.parallel import thread_map
from segbench.splits.annotations import is_annotated, may_be_annotated
from segbench.splits.candidates import LEAST_SPREAD, Floats, Pairs
from segbench.splits.likeness import Background
from segbench.splits.near import find_near_duplicates

MOST_DECODED = 500
"""Pairs of images that are decoded to look for annotated copies."""
CHUNK = 128


@dataclass(frozen=True)
class Duplicates:
    """Pairs of samples that show the same, wherever they are split to.

    Attributes:
        exact: pairs of equal pixels; of a larger set of equals, each with the first.
        near: pairs that show nearly the same, the most alike first; without those in `exact`.
        likeness: (P,) of `near`, see `likeness.py`.
        turned: (P,) bool, True where one of `near` is turned or mirrored.
        runners_up: the most alike pairs of different groups that do not count.
        runners_up_likeness: (P,) of `runners_up`.
        annotated: pairs of which one has something drawn on it.
        neighbours: pairs of which one continues the other.
        limit: likeness from which pairs of different groups count.
        background: how alike different groups are.
        blank: rows of samples whose thumbnails show nothing and were not compared.
        unseen: candidates, the least similar ones, that were not compared, there being too many.
    """

    exact: Pairs
    near: Pairs
    likeness: Floats
    turned: NDArray[np.bool_]
    runners_up: Pairs
    runners_up_likeness: Floats
    annotated: Pairs
    neighbours: Pairs
    limit: float
    background: Background
    blank: NDArray[np.int64]
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
        near_duplicate: likeness below which two samples are no near duplicates.
        within_groups: also compare samples of one group, which a split by group never parts. A
            video from a camera that stands still has millions of such pairs.
    """
    every = [dataset / path for path in samples["image"]]
    return _find(read_thumbnails(dataset), every, samples, measures, near_duplicate, within_groups)


def find_between(first: Path, second: Path, near_duplicate: float) -> Duplicates:
    """Find samples of two canonical datasets that show the same, one in each.

    Pairs within a dataset are among the exact ones only. Rows of the second follow those of the
    first.

    Args:
        first, second: folders of the datasets.
        near_duplicate: as for `find_duplicates`.
    """
    both = [first, second]
    tables = [
        read_samples(folder).assign(group=str(at), previous="") for at, folder in enumerate(both)
    ]
    paths = [
        folder / path for folder, table in zip(both, tables, strict=True) for path in table["image"]
    ]
    measures = pd.concat([read_table(folder / "measures.csv") for folder in both])
    thumbnails = np.concatenate([read_thumbnails(folder) for folder in both])
    samples = pd.concat(tables, ignore_index=True)
    return _find(thumbnails, paths, samples, measures, near_duplicate, within_groups=False)


def _find(
    thumbnails: Pixels,
    every: Sequence[Path],
    samples: pd.DataFrame,
    measures: pd.DataFrame,
    near_duplicate: float,
    within_groups: bool,
) -> Duplicates:
    assert len(thumbnails) == len(samples)
    exact = _equal(measures["image_sha256"].to_numpy(str))
    shows = _spread_of(thumbnails) >= LEAST_SPREAD
    seen = shows.copy()
    # Of equal images, only the first is compared with others.
    seen[exact[:, 1]] = False
    rows = np.flatnonzero(seen)
    compared = thumbnails if len(rows) == len(thumbnails) else thumbnails[rows]
    _, group_of = np.unique(samples["group"].to_numpy(str)[rows], return_inverse=True)
    paths = [every[row] for row in rows.tolist()]
    near = find_near_duplicates(
        compared, lambda row: read_pixels(paths[row]), near_duplicate, group_of, within_groups
    )
    annotated, unseen = _annotated(compared, paths, near.upright)
    drawn_on = set(map(tuple, annotated.tolist()))
    plain = np.array([tuple(pair) not in drawn_on for pair in near.pairs.tolist()], bool)
    counts = np.arange(len(plain)) < near.count
    index = {id: at for at, id in enumerate(samples["id"])}
    follows = [
        sorted((at, index[previous]))
        for at, previous in enumerate(samples["previous"])
        if previous in index
    ]
    near_pairs, ours, below = rows[near.pairs], counts & plain, ~counts & plain
    return Duplicates(
        exact=exact,
        near=near_pairs[ours],
        likeness=near.likeness[ours],
        turned=near.orientation[ours] > 0,
        runners_up=near_pairs[below],
        runners_up_likeness=near.likeness[below],
        annotated=rows[annotated],
        neighbours=np.array(follows, np.int64).reshape(-1, 2),
        limit=near.limit,
        background=near.background,
        blank=np.flatnonzero(~shows),
        unseen=unseen + near.left_out,
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


def _spread_of(thumbnails: Pixels) -> NDArray[np.float64]:
    """(N,) standard deviations, some thumbnails at a time."""
    parts = (thumbnails[start : start + CHUNK] for start in range(0, len(thumbnails), CHUNK))
    return np.concatenate([part.std(axis=(1, 2, 3)) for part in parts])


def _annotated(thumbnails: Pixels, paths: list[Path], upright: Pairs) -> tuple[Pairs, int]:
    """Pairs of images that are equal but for something drawn on one; and how many were not seen."""
    parts = (upright[start : start + CHUNK] for start in range(0, len(upright), CHUNK))
    likely = [
        part[may_be_annotated(thumbnails[part[:, 0]], thumbnails[part[:, 1]])] for part in parts
    ]
    candidates = np.concatenate([np.zeros((0, 2), np.int64), *likely])
    looked_at = candidates[:MOST_DECODED]

    def work(pair: NDArray[np.int64]) -> bool:
        first, second = (read_pixels(paths[at]) for at in pair)
        return is_annotated(first, second)

    found = [*thread_map(work, list(looked_at), "annotated copies", len(looked_at))]
    return looked_at[np.array(found, bool)], len(candidates) - len(looked_at)
