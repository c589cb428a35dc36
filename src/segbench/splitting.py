"""The split: which sample trains, which chooses, which tests."""

from pathlib import Path

import numpy as np
import pandas as pd

from segbench.errors import InputError
from segbench.params import Split
from segbench.samples import read_samples
from segbench.writing import whole_file

SPLITS = ("train", "val", "test")


def split_samples(samples: pd.DataFrame, params: Split) -> pd.DataFrame:
    """Assign every sample to train, val or test, whole groups together.

    Groups are drawn in seeded random order; each goes where it brings the sizes of the splits
    nearest to what was asked, and a split is never left empty while there are groups for it. The
    result depends on the seed and the set of samples, not on their order.

    Args:
        samples: with columns id, group and stratum.
        params: seed and shares.

    Returns:
        One row a sample, by id: id, split, fold, group, stratum.

    Raises:
        InputError: if there are too few groups for three splits that all hold something.
    """
    sizes = samples.groupby("group").size().sort_index()
    if len(sizes) < len(SPLITS):
        raise InputError(
            f"split: {len(samples)} samples in {len(sizes)} groups cannot fill "
            f"{', '.join(SPLITS)}; at least 3 groups are needed, since a group is never torn "
            "apart; add data or make groups smaller"
        )
    shares = [1 - params.val_share - params.test_share, params.val_share, params.test_share]
    wanted = np.array(shares) * len(samples)
    filled = np.zeros(len(SPLITS))
    split_of: dict[str, str] = {}
    order = np.random.default_rng(params.seed).permutation(sizes.index.to_numpy(str))
    for drawn, group in enumerate(order):
        size = sizes[group]
        error = np.abs(wanted - filled - size) - np.abs(wanted - filled)
        if len(order) - drawn <= np.count_nonzero(filled == 0):
            error[filled > 0] = np.inf
        # Among equals the split that lacks most of its share, so that small ones are not starved.
        target = int(np.lexsort([filled / wanted, error])[0])
        filled[target] += size
        split_of[str(group)] = SPLITS[target]
    table = samples[["id", "group", "stratum"]].sort_values("id")
    table = table.assign(split=table["group"].map(split_of), fold=0)
    return table[["id", "split", "fold", "group", "stratum"]].reset_index(drop=True)


def read_split(path: Path) -> pd.DataFrame:
    """Read a split table; ids, groups and strata as text."""
    text = {"id": str, "group": str, "stratum": str}
    return pd.read_csv(path, dtype=text, keep_default_na=False)


def split(dataset: Path, params: Split, out: Path) -> str:
    """Split a canonical dataset and write the table to `out`.

    Returns:
        A line that says what came out.
    """
    table = split_samples(read_samples(dataset), params)
    with whole_file(out) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    parts = []
    for name in SPLITS:
        rows = table[table["split"] == name]
        share = 100 * len(rows) / len(table)
        parts.append(f"{name} {len(rows)} ({share:.1f} %, {rows['group'].nunique()} groups)")
    return f"{', '.join(parts)} in {out}"
