"""Images and masks that lie as files in a folder: finding the pairs, and reading them."""

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from segbench.errors import InputError
from segbench.samples import Pixels

# What Pillow raises for files that are torn, foreign or too large to be meant.
UNREADABLE = (
    *(UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError),
    *(EOFError, IndexError, struct.error),
)


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file."""

    id: str
    image: Path
    mask: Path


def find_pairs(source: Path, images: str, masks: str) -> list[Pair]:
    """Match the images and masks below a folder by their common `{id}`.

    Args:
        source: the folder.
        images: pattern relative to it: `{id}` stands for the id, `*` for anything within a name,
            `**` for any folders.
        masks: likewise.

    Returns:
        Pairs in the order of their ids.

    Raises:
        InputError: if the folder or all pairs are missing, or an image or a mask stands alone.
    """
    if not source.is_dir():
        raise InputError(
            f"dataset.source: no folder at {source}; set it to where the images and masks are"
        )
    found = {"mask": _by_id(source, masks, frozenset())}
    # Of a file that fits both patterns, {id}.png and {id}_mask.png, the mask's is the narrower.
    found["image"] = _by_id(source, images, frozenset(found["mask"].values()))
    if not found["image"] and not found["mask"]:
        raise InputError(
            f"{source}: no file matches '{images}' or '{masks}'; "
            "at least one pair is needed, fix dataset.source or the patterns"
        )
    for kind, other in (("image", "mask"), ("mask", "image")):
        alone = sorted(found[kind].keys() - found[other].keys())
        if alone:
            more = f" and {len(alone) - 1} more {kind}s" if len(alone) > 1 else ""
            raise InputError(
                f"{found[kind][alone[0]]}: {kind} without {other}{more} below {source}; "
                f"add the {other} or take the {kind} away"
            )
    return [Pair(id, path, found["mask"][id]) for id, path in sorted(found["image"].items())]


def _by_id(source: Path, pattern: str, other: frozenset[Path]) -> dict[str, Path]:
    """Files below a folder that match a pattern, by id, but those in `other`."""
    if pattern.count("{id}") != 1:
        raise InputError(f"pattern '{pattern}': needs {{id}} exactly once, as in images/{{id}}.png")
    parts = {r"\{id\}": r"(?P<id>[^/]+)", r"\*\*/": r"(?:.*/)?", r"\*": r"[^/]*"}
    expression = re.escape(pattern).replace(r"\{id\}", parts[r"\{id\}"])
    for glob in (r"\*\*/", r"\*"):
        expression = expression.replace(glob, parts[glob])
    files: dict[str, Path] = {}
    paths = [
        Path(folder) / name
        for folder, _, names in os.walk(source, followlinks=True)
        for name in names
    ]
    for path in sorted(paths):
        match = re.fullmatch(expression, path.relative_to(source).as_posix())
        if not match or path in other:
            continue
        if match["id"] in files:
            raise InputError(
                f"{path}: has the id '{match['id']}' of {files[match['id']]}; "
                f"ids must be unique, narrow the pattern '{pattern}'"
            )
        files[match["id"]] = path
    return files


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: unreadable as an image ({' '.join(str(error).split())}); "
            "replace the file or take the pair away"
        ) from None


def _check_depth(path: Path, image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{path}: more than 8 bits a channel (mode {image.mode}), the limit is 8; convert it"
        )


def read_image(path: Path) -> Pixels:
    """Read an image file upright, as (H, W, 3) RGB or (H, W) grey."""
    image = _open(path)
    _check_depth(path, image)
    return np.asarray(image if image.mode in ("RGB", "L") else image.convert("RGB"))


def read_mask(path: Path) -> Pixels:
    """Read a mask file upright, as its (H, W) grey values; of a palette image, the indices.

    An alpha channel is ignored; colours that are not grey are an error.
    """
    image = _open(path)
    _check_depth(path, image)
    if image.mode == "1":
        image = image.convert("L")
    values = np.asarray(image)
    if values.ndim == 2:
        return values
    colours = values[..., : 1 if image.mode == "LA" else 3]
    if (colours != colours[..., :1]).any():
        raise InputError(
            f"{path}: a mask in colours; only grey values or palette indices are understood, "
            "convert it"
        )
    return np.ascontiguousarray(colours[..., 0])


def by_threshold(threshold: int) -> Callable[[Pixels, Path], Pixels]:
    """Decode a mask's grey values: class 1 from `threshold` up."""
    return lambda values, path: (values >= threshold).astype(np.uint8)


def by_values(classes: dict[int, int]) -> Callable[[Pixels, Path], Pixels]:
    """Decode a mask's grey values by a table of class ids; other values are an error."""
    table = np.zeros(256, np.uint8)
    for value, class_id in classes.items():
        table[value] = class_id

    def decode(values: Pixels, path: Path) -> Pixels:
        undefined = sorted(set(np.unique(values).tolist()) - classes.keys())
        if undefined:
            raise InputError(
                f"{path}: the mask holds the values {undefined[:8]}, dataset.mask.values defines "
                f"{sorted(classes)}; define them there or use dataset.mask.threshold"
            )
        return table[values]

    return decode
