"""What is written of predicted images, each file whole or not at all, and which are done."""

import csv
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segbench.datasets.canonical import plain_text
from segbench.delivery.finding import Source
from segbench.delivery.inputs import InputFile, Item, Listing
from segbench.delivery.made import DONE, Row, check_made, read_rows, write_made, write_rows
from segbench.delivery.objects import columns, row_of
from segbench.errors import InputError
from segbench.evaluation.drafts import Draft
from segbench.evaluation.postprocessing import own_mask_by
from segbench.exports.masks import enlarge
from segbench.files import atomic_file
from segbench.images import Pixels, resize_mask
from segbench.labels import class_keys
from segbench.report.overlay import overlay

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
    - `predict.json`: the model, the rule by which masks are made, and where the images are.

    Args:
        folder: is made if need be.
        source: the model.
        wanted: what is written.
        fresh: predict all images, in place of all results that lie there.
        listing: the images. Rows of others are dropped, their masks stay.

    Raises:
        InputError: if the folder holds results of another model or of images elsewhere, or files
            that others made.
    """

    def __init__(
        self, folder: Path, source: Source, wanted: Wanted, fresh: bool, listing: Listing
    ) -> None:
        self.folder = folder
        self._source = source
        self._wanted = wanted
        self._scheme = source.scheme
        self._keys = class_keys(source.classes)
        self._failures: list[tuple[str, str]] = []
        self.num_failed = 0
        self._finished: set[str] = set()
        check_made(folder, source, listing.where, fresh)
        former = read_rows(folder)
        if fresh:
            for row in former.values():
                self._remove(row.target)
            former = {}
        self._former = former.keys()
        files = {file.name: file for file in listing.files}
        self._rows = {name: row for name, row in former.items() if self._is_done(name, row, files)}
        # In this order: a kill between them leaves no former results under this model's name.
        write_rows(folder, self._rows)
        write_made(folder, source, listing.where)
        self._done = (folder / DONE).open("a", encoding="utf-8")

    @property
    def done(self) -> frozenset[str]:
        """Names of images that are finished."""
        return frozenset(self._rows)

    @property
    def counts(self) -> tuple[int, int]:
        """How many images this process finished, and how many were done before."""
        return len(self._finished), len(self._rows.keys() - self._finished)

    @property
    def dropped(self) -> int:
        """How many rows of earlier calls are of images that are gone or cannot be read now."""
        return len(self._former - self._rows.keys())

    @property
    def failures(self) -> Sequence[tuple[str, str]]:
        """Name and reason of each image, or row of frames, that could not be predicted."""
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

        Raises:
            InputError: if its name is too long for a file of results.
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
        done = self._rows[item.name] = Row(item.stamp, item.target, row)
        self._finished.add(item.name)
        self._done.write(done.line(item.name))
        self._done.flush()

    def fail(self, name: str, reason: str, number: int = 1) -> None:
        """Note that an image, or a number of a video's frames, cannot be predicted."""
        self._failures.append((name, reason))
        self.num_failed += number

    def close(self) -> None:
        """Write the tables."""
        self._done.close()
        _write_table(
            self.folder / "images.csv",
            ["image", "mask", *columns(self._source.classes, self._scheme)],
            (
                [name, self._mask(row.target).relative_to(self.folder).as_posix(), *row.numbers]
                for name, row in sorted(self._rows.items())
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

    def _is_done(self, name: str, row: Row, files: Mapping[str, InputFile]) -> bool:
        """Whether a row is of an image of the listing as it is now, and all its files are there."""
        video, _, number = name.rpartition("/")
        if name in files:
            file, target = files[name], files[name].target
        elif video in files and files[video].is_video:
            file, target = files[video], f"{files[video].target}/{number}"
        else:
            return False
        made = [self._mask(target)]
        made += [self._overlay(target)] if self._wanted.overlays else []
        made += self._planes(target) if self._wanted.probabilities else []
        return (row.stamp, row.target) == (file.stamp, target) and all(
            one.exists() and one.stat().st_size for one in made
        )

    def _remove(self, target: str) -> None:
        """Remove what was written of an image, by whichever model."""
        if ".." in Path(target).parts or Path(target).is_absolute():
            return  # a list that is not ours
        classes = self.folder / "probabilities"
        planes = [one / f"{target}.png" for one in classes.iterdir()] if classes.is_dir() else []
        for file in (self._mask(target), self._overlay(target), *planes):
            file.unlink(missing_ok=True)


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
    # A name with more before it might be too long.
    partial = path.with_name(f".partial-{blake2b(path.name.encode(), digest_size=8).hexdigest()}")
    try:
        try:
            partial.write_bytes(data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as problem:
        partial.unlink(missing_ok=True)
        if problem.errno != errno.ENAMETOOLONG:
            raise
        raise InputError(
            f"{path}: too long a name for a file of results; shorten the image's"
        ) from None


def _write_table(path: Path, head: Sequence[str], rows: Any) -> None:
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(head)
        for name, *rest in rows:
            table.writerow([plain_text(name), *rest])
