"""What an evaluated run leaves behind, written; `results.py` reads it."""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.files import atomic_file, sha256_of, sha256_of_arrays
from segbench.metrics.counts import Counts

Write = Callable[[str, str, bytes], None]
"""Writes the predicted mask of an image: split, id, PNG of class ids; see `images.encode_mask`."""


def write_images(path: Path, table: pd.DataFrame) -> str:
    """Write a row an image; sha256 of the file."""
    with atomic_file(path) as file:
        table.to_csv(file, index=False, lineterminator="\n")
    return sha256_of(path)


def write_choices(path: Path, tried: Sequence[Mapping[str, Any]]) -> None:
    """Write a row for each mask rule that was tried, best first."""
    with atomic_file(path) as file:
        pd.DataFrame(tried).to_csv(file, index=False, lineterminator="\n")


def write_soft(path: Path, sums: Mapping[str, NDArray[np.float32]]) -> str:
    """Write the sums (N, F, 2) of `on_device.soft_sums` of each split; sha256 of the content."""
    return _write_archive(path, sums)


def write_counts(path: Path, found: Mapping[str, Mapping[str, Counts]]) -> str:
    """Write the counts (N, F, 4) of images, by split and then by variant of the mask; sha256 of the
    file."""
    _write_archive(
        path,
        {
            f"{split}{ending}": cells.astype(np.uint32)
            for split, of_masks in found.items()
            for ending, cells in of_masks.items()
        },
    )
    return sha256_of(path)


def write_confusion(path: Path, matrices: Mapping[str, NDArray[np.int64]]) -> str:
    """Write the pixels (C, C) by true and predicted class of each split; sha256 of the content."""
    return _write_archive(path, matrices)


def _write_archive(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    with atomic_file(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return sha256_of_arrays(arrays)


def write_scores(
    path: Path,
    summary: Mapping[str, float],
    chosen: Mapping[str, Any],
    parameters: int,
    sha256: Mapping[str, str],
) -> None:
    """Write the scores file of a run.

    Args:
        path: a JSON file.
        summary: scores by `<split>/<name>`; one that nothing defines (NaN) becomes null.
        chosen: the mask rule that was chosen on validation, by field.
        parameters: how many the network learnt.
        sha256: of what the scores come from.
    """
    content = {
        # JSON knows no NaN.
        **{key: value if np.isfinite(value) else None for key, value in summary.items()},
        "chosen": chosen,
        "parameters": parameters,
        "sha256": sha256,
    }
    with atomic_file(path) as file:
        file.write_text(json.dumps(content, indent=2) + "\n")


@contextmanager
def writing_predictions(path: Path) -> Iterator[Write]:
    """Write predicted masks to a zip as they come, one `<split>/<id>.png` each."""
    with atomic_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:

        def write(split: str, id: str, png: bytes) -> None:
            # ZipInfo has the same time in every file, so that equal masks make equal files.
            archive.writestr(zipfile.ZipInfo(f"{split}/{id}.png"), png)

        yield write
