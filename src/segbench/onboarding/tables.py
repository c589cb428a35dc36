"""CSV files beside the images, whose columns may say what belongs together."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

MOST_TABLES, MOST_BYTES, MOST_COLUMNS = 4, 20_000_000, 60
# Labels that are nearly as many as images name the images, not their groups.
MOST_LABELS = 0.8


def find_labels(
    folder: Path, files: Sequence[str], ids: set[str]
) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Columns that give every id a label, beside a column that names every id.

    Args:
        folder: of the dataset.
        files: in it, of any kind.
        ids: of the samples.

    Returns:
        Of each: the key `dataset.group` for it, and the label of every id.
    """
    found = []
    tables = [name for name in files if name.lower().endswith(".csv")]
    for name in tables[:MOST_TABLES]:
        if (folder / name).stat().st_size > MOST_BYTES:
            continue
        try:
            table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
        except (OSError, ValueError):
            continue
        if not isinstance(table.index, pd.RangeIndex):
            continue
        columns = [str(column) for column in table.columns[:MOST_COLUMNS]]
        for column in columns:
            named = table[column]
            if named.duplicated().any() or not ids <= set(named):
                continue
            rows = table.set_index(column).loc[sorted(ids)]
            for other in columns:
                if other == column or (rows[other] == "").any():
                    continue
                if 1 < rows[other].nunique() <= MOST_LABELS * len(rows):
                    label = {"table": name, "id": column, "column": other}
                    found.append((label, dict(zip(rows.index, rows[other], strict=True))))
    return found
