"""Tables that come with a dataset, as CSV files."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segbench.errors import InputError

MOST_BYTES = 10**9
"""Of a table: a million rows have a tenth of it."""


def read_columns(key: str, path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of a CSV file as text.

    Args:
        key: of params.yaml that names the file, for messages.
        path: of the file.
        columns: that it must have.

    Raises:
        InputError: if it is unreadable, or lacks a column.
    """
    problem = ""
    if not path.is_file():
        problem = "no such file, or a folder, pipe or device"
    elif path.stat().st_size > MOST_BYTES:
        problem = f"more than the limit of {MOST_BYTES / 1e9:g} GB"
    if problem:
        raise InputError(f"{key}: {path} unreadable as CSV ({problem}); fix it")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{key}: {path} unreadable as CSV ({reason}); fix it") from None
    if not isinstance(table.index, pd.RangeIndex):
        # Rows have more values than the header: a comma at their ends, or a mistake.
        shifted, width = table.reset_index(), len(table.columns)
        if (shifted.iloc[:, width:] != "").any(axis=None):
            raise InputError(
                f"{key}: {path} has more values in a row than the {width} columns of its header; "
                "name every column"
            )
        table = shifted.iloc[:, :width].set_axis(table.columns, axis=1)
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"{key}: {path} has no column '{missing[0]}'; it has {', '.join(table.columns)}"
        )
    return table[list(dict.fromkeys(columns))]
