"""Leaks: groups and pairs of samples that lie on both sides of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.report.words import counted
from segbench.splits.assign import UNUSED
from segbench.splits.candidates import Pairs
from segbench.splits.duplicates import Duplicates

PAIRS = {
    "exact_duplicates": ("exact duplicate", "exact duplicates"),
    "near_duplicates": ("near-duplicate pair", "near-duplicate pairs"),
    "annotated_copies": ("annotated copy", "annotated copies"),
    "neighbours": ("pair of neighbours", "pairs of neighbours"),
}
"""What one and several pairs of a kind are called."""


def equals_cross_splits(exact: Pairs, split: NDArray[np.str_]) -> NDArray[np.bool_]:
    """`crosses_splits` of pairs whose first stands for a set of equals, though it may be unused."""
    stands_for = split.copy()
    for first, again in exact[::-1]:
        if split[first] == UNUSED and split[again] != UNUSED:
            stands_for[first] = split[again]
    return crosses_splits(exact, stands_for)


def crosses_splits(pairs: Pairs, split: NDArray[np.str_]) -> NDArray[np.bool_]:
    """(P,) True where the samples of a pair are in different splits, neither of them unused.

    Args:
        pairs: rows of samples.csv.
        split: (N,) of each sample, in the order of samples.csv.
    """
    first, second = split[pairs[:, 0]], split[pairs[:, 1]]
    return (first != second) & (first != UNUSED) & (second != UNUSED)


def torn_groups(table: pd.DataFrame) -> list[str]:
    """Groups of a fold's split table that lie in more than one split."""
    used = table[table["split"] != UNUSED]
    splits = used.groupby("group")["split"].nunique()
    return sorted(splits.index[splits > 1])


@dataclass(frozen=True)
class Leaks:
    """What lies on both sides of a split in one fold: groups, and rows of pairs by kind."""

    groups: list[str]
    pairs: dict[str, NDArray[np.bool_]]

    def counts(self) -> dict[str, int]:
        """How many, by kind."""
        pairs = {kind: int(found.sum()) for kind, found in self.pairs.items()}
        return {"groups": len(self.groups), **pairs}


def leaks_of(fold: pd.DataFrame, samples: pd.DataFrame, duplicates: Duplicates) -> Leaks:
    """What lies on both sides of a split, by one fold of the split table.

    Args:
        fold: its rows of the table.
        samples: of the dataset.
        duplicates: pairs of its rows.
    """
    split = fold.set_index("id")["split"].loc[samples["id"]].to_numpy(str)
    kinds = {
        kind: crosses_splits(pairs, split) for kind, pairs in pairs_by_kind(duplicates).items()
    }
    kinds["exact_duplicates"] = equals_cross_splits(duplicates.exact, split)
    return Leaks(torn_groups(fold), kinds)


def pairs_by_kind(duplicates: Duplicates) -> dict[str, Pairs]:
    """Rows of samples.csv, two by two, under the names that reports and CSV files use."""
    return {
        "exact_duplicates": duplicates.exact,
        "near_duplicates": duplicates.near,
        "annotated_copies": duplicates.annotated,
        "neighbours": duplicates.neighbours,
    }


def worst_fold(leaks: Sequence[Leaks]) -> int:
    """The fold through which most leaks; the first if nothing does."""
    return max(range(len(leaks)), key=lambda fold: sum(leaks[fold].counts().values()))


def write_pairs(
    path: Path,
    duplicates: Duplicates,
    leaks: Sequence[Leaks],
    samples: pd.DataFrame,
    table: pd.DataFrame,
) -> None:
    """Write a CSV row for each pair in each fold, and for each group on both sides of a split.

    Its columns are fold, kind, first, second, likeness (of near duplicates), turned, first_split,
    second_split, and crosses: yes or no.

    Args:
        path: of the file.
        duplicates: all pairs.
        leaks: of each fold.
        samples: of the dataset.
        table: the split table.
    """
    ids = samples["id"].to_numpy(str)
    parts = []
    for (fold, rows), found in zip(table.groupby("fold"), leaks, strict=True):
        split = rows.set_index("id")["split"].loc[ids].to_numpy(str)
        groups = pd.DataFrame({"kind": "groups", "first": found.groups, "crosses": "yes"})
        parts.append(groups.assign(fold=fold))
        for kind, pairs in pairs_by_kind(duplicates).items():
            part = pd.DataFrame(
                {
                    "kind": kind,
                    "first": ids[pairs[:, 0]],
                    "second": ids[pairs[:, 1]],
                    "first_split": split[pairs[:, 0]],
                    "second_split": split[pairs[:, 1]],
                    "crosses": np.where(found.pairs[kind], "yes", "no"),
                }
            )
            if kind == "near_duplicates":
                part["likeness"] = duplicates.likeness.astype(float).round(3)
                part["turned"] = np.where(duplicates.turned, "yes", "no")
            parts.append(part.assign(fold=fold))
    columns = [
        *("fold", "kind", "first", "second", "likeness", "turned"),
        *("first_split", "second_split", "crosses"),
    ]
    pairs_table = pd.concat([pd.DataFrame(columns=columns, dtype=str), *parts])[columns]
    pairs_table.to_csv(path, index=False, lineterminator="\n")


def describe_leaks(leaks: Sequence[Leaks]) -> str:
    """The worst fold's leaks in a few words; empty if nothing is on both sides of a split."""
    worst = worst_fold(leaks)
    names = {"groups": ("group", "groups"), **PAIRS}
    parts = [counted(count, *names[kind]) for kind, count in leaks[worst].counts().items() if count]
    if not parts:
        return ""
    where = f"fold {worst} (the worst): " if len(leaks) > 1 else ""
    return f"the split leaks: {where}{', '.join(parts)} on both sides of it"
