"""Masks of instances: a number or a colour for each object, whose class is known otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.datasets.image_files import Opened, open_file, read_bytes
from segbench.datasets.mask_values import MaskPixels, colour_codes, grey_or_colours
from segbench.datasets.tables import read_columns
from segbench.errors import InputError
from segbench.images import IGNORE, Pixels
from segbench.params.datasets import InstanceTable

# Formats that store other values than they were given.
LOSSY = {"JPEG", "MPO"}
# Instances that a message names.
NAMED = 8


@dataclass(frozen=True)
class Instances:
    """What the instances of a dataset are.

    Attributes:
        table: file that says so, for messages; empty: every instance is of class 1.
        classes: class id by instance, by id of the sample; an instance is a number in decimals or
            a colour, `#rrggbb`.
    """

    table: str
    classes: Mapping[str, Mapping[str, int]]


def read_instance_table(table: InstanceTable, folder: Path, classes: list[str]) -> Instances:
    """Read the table that gives the classes of instances.

    Args:
        table: where it is, and its columns.
        folder: to which its path is relative.
        classes: names by class id.

    Raises:
        InputError: if it is unreadable, lacks a column, or a row does not say an instance and a
            class, or says another class than a row before.
    """
    path = folder / table.table
    columns = (table.id, table.instance, table.class_)
    rows = read_columns("dataset.mask.instances", path, columns)
    known = {name: at for at, name in enumerate(classes)}
    known |= {str(at): at for at in (*range(len(classes)), IGNORE) if str(at) not in known}
    found: dict[str, dict[str, int]] = {}
    for line, (id, said, name) in enumerate(zip(*(rows[one] for one in columns), strict=True), 2):
        where = f"dataset.mask.instances: {path} line {line}"
        instance, name = _named(said.strip()), name.strip()
        if instance is None:
            raise InputError(
                f"{where}: '{said}' is no instance; write its number, or its colour as #rrggbb"
            )
        if name not in known:
            raise InputError(
                f"{where}: '{name}' is no class; write one of {', '.join(classes)}, or its id (0 "
                f"to {len(classes) - 1}; {IGNORE}: ignored)"
            )
        if found.setdefault(id, {}).setdefault(instance, known[name]) != known[name]:
            raise InputError(
                f"{where}: gives the instance {said} of '{id}' another class than a row before; "
                "an instance has one class, keep the right row"
            )
    return Instances(str(path), found)


def _named(text: str) -> str | None:
    """An instance as `Instances` names it; None if it is none. Tables may write 3 as 3.0."""
    if text.startswith("#"):
        return text.lower() if len(text) == 7 else None
    try:
        number = float(text)
    except ValueError:
        return None
    return str(int(number)) if number >= 0 and number.is_integer() else None


def read_instances(
    path: Path,
    instances: Instances,
    id: str,
    megapixels: float,
    turn: bool = True,
) -> MaskPixels:
    """Read a mask of instances, integers of any width or colours; 0 and black are the background.

    Args:
        path: of the file.
        instances: their classes.
        id: of the sample in `instances`.
        megapixels: the limit.
        turn: upright, as its EXIF says; else as stored.

    Raises:
        InputError: if it is unreadable, too large, lossy, holds values that are no instances, or
            one without a class.
    """
    opened = open_file(read_bytes(path), path, megapixels, None, turn)
    if opened.format in LOSSY:
        raise InputError(
            f"{path}: a {opened.format} changes the numbers of instances at their edges; save it "
            "as PNG or TIFF"
        )
    values, are_colours = _instance_values(opened, path)
    if not instances.table:
        ids = (values > 0).view(np.uint8)
        return MaskPixels(ids, 1 + int(ids.any()), 0.0, opened.orientation, ())
    present = np.unique(values)
    names = [f"#{value:06x}" if are_colours else f"{value:.0f}" for value in present.tolist()]
    classes = {"#000000" if are_colours else "0": 0, **instances.classes.get(id, {})}
    missing = [name for name in names if name not in classes]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise InputError(
            f"{path}: {instances.table} has no row for its instances {', '.join(missing[:NAMED])}"
            f"{more} (id '{id}'); add them, with a class or {IGNORE} for ignored"
        )
    table = np.array([classes[name] for name in names], np.uint8)
    ids = table[np.searchsorted(present, values)]
    return MaskPixels(ids, len(present), 0.0, opened.orientation, ())


def _instance_values(opened: Opened, path: Path) -> tuple[NDArray[Any], bool]:
    """(H, W) numbers of instances, or codes of their colours; and whether they are colours."""
    image = opened.image
    if image.mode in ("P", "PA"):
        return _indices(image, path), False
    if not image.mode.startswith(("I", "F")):
        pixels = grey_or_colours(image)
        return (colour_codes(pixels), True) if pixels.ndim == 3 else (pixels, False)
    values = np.asarray(image)
    if image.mode == "F" and not (np.isfinite(values) & (values == np.rint(values))).all():
        raise InputError(
            f"{path}: holds values that are no whole numbers, so no instances; is it an image? "
            "give the masks in dataset.masks"
        )
    if values.min() < 0:
        raise InputError(
            f"{path}: holds the instance {values.min():g}, which is below 0, the background; save "
            "what it means as 0"
        )
    return values, False


def _indices(image: Image.Image, path: Path) -> Pixels:
    """Those of a palette image, whose index 0 is the background and must look so."""
    pixels = np.asarray(image)
    indices = pixels if pixels.ndim == 2 else pixels[..., 0]
    levels = (image.getpalette("RGB") or [])[: 3 * (int(indices.max()) + 1)]
    palette = np.array(levels, np.uint8).reshape(-1, 3)
    black = [at for at in np.flatnonzero(~palette.any(axis=1)).tolist() if (indices == at).any()]
    if ((indices == 0).any() and black != [0]) or any(black):
        raise InputError(
            f"{path}: its palette shows the index 0 as #{bytes(palette[0]).hex()}"
            f"{' and ' + str(black[-1]) + ' as black' if any(black) else ''}, so that 0 need not "
            "be the background; save the numbers of instances as grey values, or use "
            "dataset.mask.colours"
        )
    return indices
