"""Results: what evaluated runs left behind, read back and checked against its hashes.

`outputs.py` writes it.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.errors import InputError
from segbench.files import sha256_of, sha256_of_arrays
from segbench.images import Pixels, decode_mask
from segbench.metrics.counts import Counts
from segbench.params.compare import RunKey

NAMING = ("split", "id", "group", "stratum")
"""Columns of the rows of an evaluation that are no numbers."""
EXTERNAL = "external"
"""What stands for a split in the rows of an external set, and in the names of its scores."""


@dataclass(frozen=True)
class RunResult:
    """One evaluated run.

    Attributes:
        name: `<alias>-fold<fold>-seed<seed>`.
        alias, fold, seed: which run it is.
        summary: its scores file.
        images: its rows, one an image of val and test, ordered by split and id.
        counts: of the pixels of each image and class, (N, F, 4) in the order of the rows, by split
            and variant of the mask: `test_original_chosen`; see `counts.count_image`.
        history: its epochs.
        trained: its run file: its id, learning rate, trials that chose it, and rollbacks.
        folder: of its evaluation.
    """

    name: str
    alias: str
    fold: int
    seed: int
    summary: dict[str, Any]
    images: pd.DataFrame
    counts: Mapping[str, Counts]
    history: pd.DataFrame
    trained: dict[str, Any]
    folder: Path


def read_images(path: Path) -> pd.DataFrame:
    """Read a row an image; names stay text, whatever they look like, and an empty score is NaN."""
    columns = [str(name) for name in pd.read_csv(path, nrows=0)]
    missing = {name: [""] for name in columns if name not in NAMING}
    text = dict.fromkeys(NAMING, str)
    return pd.read_csv(path, dtype=text, na_values=missing, keep_default_na=False)


class StoredCounts(Mapping[str, Counts]):
    """Counts of images in a file, read when they are asked for; see `RunResult.counts`.

    Args:
        path: of the file.
        order: by split, where each of its rows lies among those of the file.
    """

    def __init__(self, path: Path, order: Mapping[str, NDArray[np.int64]]) -> None:
        self._path = path
        self._order = order

    def __getitem__(self, key: str) -> Counts:
        with np.load(self._path) as archive:
            cells: Counts = archive[key].astype(np.int64)
        return cells[self._order[key.split("_")[0]]]

    def __iter__(self) -> Iterator[str]:
        with np.load(self._path) as archive:
            return iter(archive.files)

    def __len__(self) -> int:
        return len(list(iter(self)))


def external_key(name: str) -> str:
    """How the scores on an external set are called, in place of `test` in `test/dice_per_image`."""
    return f"{EXTERNAL}/{name}"


def read_external(run: RunResult, name: str, metrics: Path, external_sets: Path) -> RunResult:
    """A run with its scores and rows on an external set in place of those on its own splits.

    Args:
        run: as it was evaluated on its own splits.
        name: of the external set.
        metrics: folder of scores files.
        external_sets: folder in which each set has its own.

    Raises:
        InputError: for files that are missing or do not belong together.
    """
    scores = metrics / EXTERNAL / name / f"{run.name}.json"
    summary, folder = read_scores(scores), external_sets / name / "evaluate" / run.name
    if summary["sha256"]["weights"] != run.trained["weights_sha256"]:
        raise InputError(f"{scores}: the scores of other weights; run 'segbench repro'")
    images, counts = _read_images(folder, scores, summary)
    return replace(run, summary=summary, images=images, counts=counts, folder=folder)


def read_external_facts(name: str, metrics: Path) -> dict[str, Any]:
    """What is known of an external set; see `splits.audit_external`."""
    return _read_json(metrics / EXTERNAL / f"{name}.json")


def read_scores(path: Path) -> dict[str, Any]:
    """Read a scores file, see `write_scores`; InputError if it is missing or damaged."""
    return _read_json(path)


def _read_images(
    folder: Path, scores: Path, summary: Mapping[str, Any]
) -> tuple[pd.DataFrame, StoredCounts]:
    """The rows that a scores file was made from, by split and id, and the counts."""
    for name in ("images.csv", "counts.npz"):
        path = folder / name
        if not path.exists() or sha256_of(path) != summary["sha256"].get(path.stem):
            raise InputError(
                f"{path}: missing or not the rows that {scores} was made from; "
                "run 'dvc pull' or 'segbench repro'"
            )
    rows = read_images(folder / "images.csv")
    ordered = rows.sort_values(["split", "id"])
    order = {
        str(split): rows.index[rows["split"] == split].get_indexer(part.index)
        for split, part in ordered.groupby("split")
    }
    return ordered.reset_index(drop=True), StoredCounts(folder / "counts.npz", order)


def read_result(
    alias: str,
    fold: int,
    seed: int,
    metrics: Path,
    evaluations: Path,
    history: Path,
    runs: Path,
) -> RunResult:
    """Read what is known of a run, and check that its rows are the ones its scores came from.

    Args:
        alias: of the candidate.
        fold: of the run.
        seed: of the run.
        metrics: folder of scores files.
        evaluations: folder in which each run's evaluation has its own.
        history: folder of epochs.
        runs: folder of run files.

    Raises:
        InputError: for files that are missing or do not belong together.
    """
    name = RunKey(alias, fold, seed).name
    scores = metrics / f"{name}.json"
    if not scores.exists():
        raise InputError(f"{scores}: missing, so {name} was not evaluated; run 'segbench repro'")
    summary = _read_json(scores)
    folder = evaluations / name
    images, counts = _read_images(folder, scores, summary)
    epochs = _read_epochs(history / f"{name}.csv")
    run_file = runs / f"{name}.json"
    trained = read_run_file(run_file)
    if trained["weights_sha256"] != summary["sha256"]["weights"]:
        raise InputError(
            f"{scores}: the scores of other weights than those of {run_file}; run 'segbench repro'"
        )
    return RunResult(name, alias, fold, seed, summary, images, counts, epochs, trained, folder)


def _read_epochs(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError):
        raise InputError(_lost(path)) from None


def read_run_file(path: Path) -> dict[str, Any]:
    """Read what a training left for later stages; see `training.train`.

    Raises:
        InputError: if the file is missing, damaged or of an earlier version.
    """
    content = _read_json(path)
    for key in ("rollbacks", "weights_sha256"):
        if key not in content:
            raise InputError(
                f"{path}: no '{key}', so an earlier version wrote it; run 'segbench repro', or "
                "where that finds nothing to do, 'segbench repro -f -s train'"
            )
    return content


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise InputError(_lost(path))
    return content


def _lost(path: Path) -> str:
    return f"{path}: missing or damaged; run 'git checkout' or 'segbench repro'"


class Predictions:
    """Context manager that reads predicted masks, one at a time."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def read(self, split: str, id: str) -> Pixels:
        """(H, W) class ids of an image."""
        return decode_mask(self._zip.read(f"{split}/{id}.png"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()


def read_predictions(run: RunResult) -> Predictions:
    """Open the predicted masks of a run, checked against its scores file."""
    path = run.folder / "predictions.zip"
    if not path.exists() or sha256_of(path) != run.summary["sha256"].get("predictions"):
        raise InputError(_changed(path))
    return Predictions(path)


def read_soft(run: RunResult) -> tuple[list[str], NDArray[np.float32]]:
    """Ids (N,) and sums (N, F, 2) of a run's test images, see `on_device.soft_sums`, in the order
    in which they were predicted, checked against its scores file."""
    sums = _read_archive(run, "soft")["test"]
    images = read_images(run.folder / "images.csv")
    return images.loc[images["split"] == "test", "id"].tolist(), sums


def read_confusion(run: RunResult) -> NDArray[np.int64]:
    """Pixels (C, C) of a run's test images, a row for each class of the truth and a column for each
    predicted one, checked against its scores file."""
    return _read_archive(run, "confusion")["test"]


def _read_archive(run: RunResult, name: str) -> dict[str, NDArray[Any]]:
    path = run.folder / f"{name}.npz"
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError):
        arrays = {}
    if sha256_of_arrays(arrays) != run.summary["sha256"].get(name):
        raise InputError(_changed(path))
    return arrays


def _changed(path: Path) -> str:
    return f"{path}: missing or changed; run 'dvc pull' or 'segbench repro'"
