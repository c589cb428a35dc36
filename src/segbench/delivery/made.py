"""What a folder of results says of itself: what made it, of which images, and which are done."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from segbench.delivery.finding import Source
from segbench.errors import InputError
from segbench.files import atomic_file

MADE_BY = "predict.json"
"""Says what made the folder."""
DONE = ".done.jsonl"
"""A line for each finished image."""
WRITTEN = ("masks", "overlays", "probabilities", "images.csv", "failures.csv", MADE_BY)
"""What else is in it."""


@dataclass(frozen=True)
class Row:
    """A finished image: `stamp` and `target` as of `Item`, `numbers` as of `objects.row_of`."""

    stamp: str
    target: str
    numbers: list[int | float]

    def line(self, name: str) -> str:
        """Of the file `DONE`."""
        return json.dumps([name, *astuple(self)]) + "\n"


def holds_results(folder: Path) -> bool:
    """Whether `segbench predict` made a folder: others may have a `predict.json` of their own."""
    try:
        return "weights_sha256" in json.loads((folder / MADE_BY).read_text())
    except (OSError, ValueError, TypeError):
        return False


def check_made(folder: Path, source: Source, where: str, fresh: bool) -> None:
    """Check that results may be written into a folder.

    Args:
        folder: need not be there.
        source: the model.
        where: of the images, see `Listing`.
        fresh: results that lie there are replaced.

    Raises:
        InputError: if it holds what others made or, unless they are replaced, results of another
            model, rule or place of images.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file; name a folder for the results")
    if not holds_results(folder):
        foreign = [name for name in WRITTEN if os.path.lexists(folder / name)]
        if foreign:
            raise InputError(
                f"{folder}: has {foreign[0]}, which 'segbench predict' did not make and would "
                "overwrite; name another folder"
            )
        return
    if fresh:
        return
    now = _identity(source)
    try:
        former = json.loads((folder / MADE_BY).read_text())
        same = {key: former[key] for key in now} == now
        name, images = str(former["model"]), str(former["images"])
    except (TypeError, KeyError):
        raise InputError(
            f"{folder / MADE_BY}: damaged, or of an earlier version; name another folder, or "
            "predict all anew by --fresh"
        ) from None
    if not same:
        raise InputError(
            f"{folder}: holds the masks of {name}, and this model ({source.name}) is another or "
            "makes masks by another rule; name another folder, or replace them all by --fresh"
        )
    if images != where:
        raise InputError(
            f"{folder}: holds the masks of {images}, and these images are {where}; name another "
            "folder, or replace them all by --fresh"
        )


def write_made(folder: Path, source: Source, where: str) -> None:
    """Say what makes a folder; arguments as of `check_made`."""
    said = {
        "model": source.name,
        "images": where,
        **_identity(source),
        "classes": source.classes,
        "colours": source.colours,
        "values": source.data.values.tolist(),
    }
    with atomic_file(folder / MADE_BY) as partial:
        partial.write_text(json.dumps(said, indent=2) + "\n")


def read_rows(folder: Path) -> dict[str, Row]:
    """Images that are finished, by name."""
    path, found = folder / DONE, {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            name, stamp, target, numbers = json.loads(line)
        except ValueError:
            continue  # cut off by a kill
        found[name] = Row(stamp, target, numbers)
    return found


def write_rows(folder: Path, rows: Mapping[str, Row]) -> None:
    """Note that these are finished, and no others."""
    with atomic_file(folder / DONE) as partial:
        partial.write_text("".join(row.line(name) for name, row in rows.items()))


def _identity(source: Source) -> dict[str, Any]:
    """What makes masks other ones."""
    return {
        "weights_sha256": source.sha256,
        "rule": asdict(source.rule),
        "size": [source.height, source.width],
        "patches": source.patches and source.patches.model_dump(),
    }
