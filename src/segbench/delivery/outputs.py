"""What is written of predicted images, each file whole or not at all, and which are done."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segbench.datasets.canonical import plain_text
from segbench.delivery.finding import Source
from segbench.delivery.inputs import Item
from segbench.delivery.objects import columns, row_of
from segbench.errors import InputError
from segbench.evaluation.drafts import Draft
from segbench.evaluation.postprocessing import own_mask_by
from segbench.exports.masks import enlarge
from segbench.files import atomic_file
from segbench.images import Pixels, resize_mask
from segbench.labels import class_keys
from segbench.report.overlay import overlay

MADE_BY = "predict.json"
"""Says what made the folder."""
DONE = ".done.jsonl"
"""A line for each finished image."""
QUALITY = 90
"""Of the JPEG of an overlay."""


@dataclass(frozen=True)
class Wanted:
    """What is written beside masks and the table."""

    overlays: bool
    probabilities: bool


class Outputs:
    """The folder of results. `write` may be called from any thread, the rest from one.

    - `masks/<image>.png`: at the image's own size, as the dataset stores its masks.
    - `overlays/<image>.jpg`: the mask over the image, at most `report.drawing.SHOWN_SIZE` wide.
    - `probabilities/<class>/<image>.png`: 0 to 255, at the image's own size.
    - `images.csv`: a row for each image, see `objects.row_of`; `failures.csv`: which were not
      predicted, and why.
    - `predict.json`: the model, and the rule by which masks are made.

    Args:
        folder: is made if need be.
        source: the model.
        wanted: what is written.
        fresh: predict all images, also where another model's results lie.

    Raises:
        InputError: if the folder holds results of another model, or of another kind.
    """

    def __init__(self, folder: Path, source: Source, wanted: Wanted, fresh: bool) -> None:
        self.folder = folder
        self._source = source
        self._wanted = wanted
        self._scheme = source.scheme
        self._keys = class_keys(source.classes)
        self._failures: list[tuple[str, str]] = []
        self._finished: set[str] = set()
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: a file; name a folder for the results")
        self._check_model(fresh)
        self._rows = {} if fresh else self._read_done()
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / DONE) as partial:  # without the line that a kill cut off
            partial.write_text("".join(f"{line}\n" for line in map(json.dumps, self._lines())))
        self._done = (folder / DONE).open("a", encoding="utf-8")

    @property
    def done(self) -> set[tuple[str, str]]:
        """(name, stamp) of images that are finished."""
        return {(name, stamp) for name, (stamp, _, _) in self._rows.items()}

    @property
    def counts(self) -> tuple[int, int]:
        """How many images this process finished, and how many were done before."""
        return len(self._finished), len(self._rows.keys() - self._finished)

    @property
    def failures(self) -> Sequence[tuple[str, str]]:
        """Name and reason of each image that could not be predicted."""
        return self._failures

    def write(
        self,
        item: Item,
        size: tuple[int, int],
        shown: Pixels | None,
        probs_u8: Pixels,
        pred_mask: Pixels,
    ) -> list[int | float]:
        """Write all that is wanted of an image.

        Args:
            item: the image.
            size: its own height and width.
            shown: (H'', W'', C) or (H'', W'') to lay the mask over, None without overlays.
            probs_u8: (C, H, W), see `on_device.to_probs_u8`.
            pred_mask: (H, W) class ids by the default rule.

        Returns:
            Its row, see `objects.row_of`.
        """
        source = self._source
        draft = Draft.of_parts(probs_u8, pred_mask, *size)
        mask = own_mask_by(source.rule, draft, size, source.background)
        if self._wanted.probabilities:
            for path, plane in zip(
                self._planes(item.target), self._of_classes(probs_u8), strict=True
            ):
                large = plane if plane.shape == size else enlarge(plane, *size)
                _write(path, _png(large.astype(np.uint8)))
        if shown is not None:
            small = resize_mask(mask, *shown.shape[:2])
            drawn = overlay(shown, small, source.colours, source.background, min_size=1)
            _write(self._overlay(item.target), _jpeg(drawn))
        _write(self._mask(item.target), source.data.encode(mask))
        return row_of(mask, probs_u8, self._scheme)

    def finish(self, item: Item, row: list[int | float]) -> None:
        """Note that an image is done."""
        self._rows[item.name] = item.stamp, item.target, row
        self._finished.add(item.name)
        self._done.write(json.dumps([item.name, item.stamp, item.target, row]) + "\n")
        self._done.flush()

    def fail(self, name: str, reason: str) -> None:
        """Note that an image cannot be predicted."""
        self._failures.append((name, reason))

    def close(self) -> None:
        """Write the tables."""
        self._done.close()
        _write_table(
            self.folder / "images.csv",
            ["image", "mask", *columns(self._source.classes, self._scheme)],
            (
                [name, self._mask(target).relative_to(self.folder).as_posix(), *row]
                for name, (_, target, row) in sorted(self._rows.items())
            ),
        )
        _write_table(self.folder / "failures.csv", ["image", "reason"], sorted(self._failures))

    def _mask(self, target: str) -> Path:
        return self.folder / "masks" / f"{target}.png"

    def _overlay(self, target: str) -> Path:
        return self.folder / "overlays" / f"{target}.jpg"

    def _planes(self, target: str) -> list[Path]:
        names = [self._keys[at] for at in self._scheme.scored]
        return [self.folder / "probabilities" / name / f"{target}.png" for name in names]

    def _of_classes(self, probs_u8: Pixels) -> list[Pixels]:
        return [*probs_u8] if len(probs_u8) == 1 else [probs_u8[at] for at in self._scheme.scored]

    def _check_model(self, fresh: bool) -> None:
        """Raise InputError if the folder holds results of another model; say which made it."""
        source, path = self._source, self.folder / MADE_BY
        patches = source.patches and source.patches.model_dump()
        now: dict[str, Any] = {
            "weights_sha256": source.sha256,
            "rule": asdict(source.rule),
            "size": [source.height, source.width],
            "patches": patches,
        }
        if path.exists() and not fresh:
            try:
                former = json.loads(path.read_text())
                same = {key: former[key] for key in now} == now
                name = str(former["model"])
            except (ValueError, TypeError, KeyError):
                raise InputError(
                    f"{path}: damaged; name another folder, or predict all anew by --fresh"
                ) from None
            if not same:
                raise InputError(
                    f"{self.folder}: holds the masks of {name}, and this model ({source.name}) is "
                    "another or makes masks by another rule; name another folder, or replace them "
                    "all by --fresh"
                )
        elif not fresh and self.folder.is_dir() and (self.folder / "masks").exists():
            raise InputError(
                f"{self.folder}: has a folder masks that 'segbench predict' did not make; name "
                "another folder"
            )
        now = {
            "model": source.name,
            **now,
            "classes": source.classes,
            "colours": source.colours,
            "values": source.data.values.tolist(),
        }
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(now, indent=2) + "\n")

    def _read_done(self) -> dict[str, tuple[str, str, list[int | float]]]:
        """Stamp, target and row of finished images whose files are all there."""
        path, found = self.folder / DONE, {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                name, stamp, target, row = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            files = [self._mask(target)]
            files += [self._overlay(target)] if self._wanted.overlays else []
            files += self._planes(target) if self._wanted.probabilities else []
            if all(file.exists() and file.stat().st_size for file in files):
                found[name] = stamp, target, row
        return found

    def _lines(self) -> list[list[Any]]:
        return [[name, *rest] for name, rest in self._rows.items()]


def _png(pixels: Pixels) -> bytes:
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _jpeg(pixels: Pixels) -> bytes:
    how = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), how)[1].tobytes()


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears whole.

    It is not synced to disk, which would take longer than to predict it: a power cut may lose it,
    and then it is made again.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        partial.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
    os.replace(partial, path)


def _write_table(path: Path, head: Sequence[str], rows: Any) -> None:
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(head)
        for name, *rest in rows:
            table.writerow([plain_text(name), *rest])
