"""The stage audit_external: images of an external test set that networks were trained on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.datasets.canonical import read_info, read_samples, read_table
from segbench.errors import InputError
from segbench.files import atomic_file, sha256_of
from segbench.params import Params
from segbench.splits.assign import read_split
from segbench.splits.duplicates import Duplicates, find_between

MOST_NAMED = 3
"""Images that a message names."""
KINDS = {
    "exact_duplicates": "equal to one",
    "near_duplicates": "nearly equal to one",
    "annotated_copies": "equal to one but for something drawn",
}
"""How an image may show the same as another, and how that is said."""


def audit_external(
    params: Params,
    external: str,
    dataset: Path,
    split: Path,
    other: Path,
    leaks: Path,
    facts: Path,
) -> str:
    """Compare every image of an external set with every image of the training set.

    Args:
        params: all of them.
        external: name of the set.
        dataset: canonical folder of the images that train, choose and test.
        split: their split table.
        other: canonical folder of the external set.
        leaks: a CSV file with a row for each pair that shows the same.
        facts: a JSON file on the set: its name, images and groups, the sha256 of its samples.csv,
            and how many images are `in_training`, by kind, and `in_test`.

    Returns:
        A line that says what was found.

    Raises:
        InputError: if an image was trained on, unless a leak is to be a warning; the files are
            written before.
    """
    info, samples = read_info(other), read_samples(other)
    pairs = pairs_between(dataset, other, params.split.near_duplicate)
    used = used_for(read_split(split), params.comparison.folds)
    pairs["used_for"] = pairs["id"].map(used)
    seen = pairs[pairs["used_for"] == "training"]
    tested = set(pairs["external_id"][pairs["used_for"] == "test"]) - set(seen["external_id"])
    with atomic_file(leaks) as partial:
        pairs.to_csv(partial, index=False, lineterminator="\n")
    # Of an image that is several kinds of copies, the plainest counts.
    kinds = seen.drop_duplicates("external_id")["kind"].value_counts()
    found: dict[str, Any] = {
        "name": info.name,
        "licence": info.licence,
        "citation": info.citation,
        "images": len(samples),
        "groups": int(samples["group"].nunique()),
        "sha256": sha256_of(other / "samples.csv"),
        "skipped": len(pd.read_csv(other / "skipped.csv")),
        "in_training": {kind: int(kinds.get(kind, 0)) for kind in KINDS},
        "in_test": len(tested),
    }
    with atomic_file(facts) as partial:
        partial.write_text(json.dumps(found, indent=2) + "\n")
    said = describe(external, found["in_training"], sorted(set(seen["external_id"])))
    if said and params.split.on_leak == "error":
        raise InputError(
            f"{said}; see {leaks}, then take them out of the set, or set split.on_leak: warn"
        )
    warning = f"WARNING: {said}\n" if said else ""
    return (
        f"{warning}{external}: {len(samples)} images in {found['groups']} groups, "
        f"{sum(found['in_training'].values())} of them in the training set, {found['in_test']} in "
        f"the test set, in {facts}"
    )


def describe(external: str, in_training: Mapping[str, int], ids: Sequence[str]) -> str:
    """How many images were trained on, in words; empty if none was.

    Args:
        external: name of the set.
        in_training: how many, by kind.
        ids: of these images.
    """
    if not ids:
        return ""
    parts = ", ".join(f"{count} {KINDS[kind]}" for kind, count in in_training.items() if count)
    named = ", ".join(ids[:MOST_NAMED]) + (" ..." if len(ids) > MOST_NAMED else "")
    return (
        f"comparison.external.{external}: {len(ids)} of its images show what a training image "
        f"shows ({parts}): {named}"
    )


def used_for(table: pd.DataFrame, folds: Sequence[int]) -> dict[str, str]:
    """What each sample is used for in the folds that are compared: training, test or nothing.

    An image that chooses the weights or the mask rule counts as training.

    Args:
        table: the split table.
        folds: of the comparison.
    """
    rows = table[table["fold"].isin(folds)]
    used = dict.fromkeys(rows["id"], "nothing")
    used |= dict.fromkeys(rows["id"][rows["split"] == "test"], "test")
    return used | dict.fromkeys(rows["id"][rows["split"].isin(["train", "val"])], "training")


def pairs_between(dataset: Path, other: Path, near_duplicate: float) -> pd.DataFrame:
    """Every pair of an external image and one of the dataset that show the same.

    Args:
        dataset: canonical folder.
        other: canonical folder of the external set.
        near_duplicate: likeness below which no pair counts.

    Returns:
        A row for each pair, by external id: external_id, id, kind, likeness.
    """
    ours, theirs = (read_table(folder / "measures.csv") for folder in (dataset, other))
    found = find_between(dataset, other, near_duplicate)
    ids = np.concatenate([ours["id"], theirs["id"]]).astype(str)
    hashes = np.concatenate([ours["image_sha256"], theirs["image_sha256"]]).astype(str)
    count = len(ours)
    alike: dict[str, list[int]] = {}  # rows by hash: of equal images only one was compared
    for row, hash in enumerate(hashes):
        alike.setdefault(hash, []).append(row)
    rows = []
    for kind, (pairs, likeness) in _by_kind(found, hashes, count).items():
        for (first, second), value in zip(pairs.tolist(), likeness.tolist(), strict=True):
            for a in (row for row in alike[hashes[first]] if row < count):
                for b in (row for row in alike[hashes[second]] if row >= count):
                    rows.append((ids[b], ids[a], kind, round(value, 3)))
    table = pd.DataFrame(rows, columns=["external_id", "id", "kind", "likeness"])
    order = table["kind"].map({kind: at for at, kind in enumerate(KINDS)})
    table = table.assign(order=order).sort_values(["external_id", "order", "id"])
    return table.drop(columns="order").drop_duplicates(ignore_index=True)


def _by_kind(
    found: Duplicates, hashes: NDArray[np.str_], count: int
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Pairs of one of the first `count` rows and one of the others, by kind, with likeness."""
    _, first, again = np.unique(hashes, return_index=True, return_inverse=True)
    equal = np.stack([first[again], np.arange(len(hashes))], axis=1)
    kinds = {
        "exact_duplicates": (equal, np.ones(len(equal))),
        "near_duplicates": (found.near, found.likeness.astype(float)),
        "annotated_copies": (found.annotated, np.full(len(found.annotated), np.nan)),
    }
    across = {
        kind: (part[:, 0] < count) & (part[:, 1] >= count) for kind, (part, _) in kinds.items()
    }
    return {
        kind: (pairs[across[kind]], likeness[across[kind]])
        for kind, (pairs, likeness) in kinds.items()
    }
