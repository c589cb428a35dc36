"""What mask files hold: values, palettes, colours, alpha, numbered objects; over a sample."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.datasets.image_files import open_file, read_bytes
from segbench.errors import InputError

# Numbered objects that are looked at, and pixels of colours that are sorted: of a larger file,
# every second or third row and column.
MOST_OBJECTS, MOST_SORTED = 100, 1_000_000
# Share of the numbers of a file that must be one object each, at most so many numbers apart.
LEAST_SINGLE, MOST_GAPS = 0.9, 1.5
COLOUR = np.array([1 << 16, 1 << 8, 1])
GREY = int(COLOUR.sum())
Values = NDArray[np.int64]


@dataclass
class Held:
    """What a sample of mask files holds, by value: a grey value from 8-bit files counts as the
    colour that it looks like, `v << 16 | v << 8 | v`.

    Attributes:
        kinds: how many files are of each kind: grey, palette, colour, deep (more than 8 bits).
        pixels: of each value.
        inside: likewise, pixels whose four neighbours hold the same.
        border: likewise, pixels on the edge of the image.
        files: how many files hold each.
        indices: values that each palette index shows.
        transparent: files of one value whose alpha channel differs from pixel to pixel.
        objects: how many values above 0 the files hold that hold several.
        numbered: of these files, those in which each value is one object, counted from 1 unless
            values are colours.
        unreadable: what is wrong with files that could not be read.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)
    inside: Counter[int] = field(default_factory=Counter)
    border: Counter[int] = field(default_factory=Counter)
    files: Counter[int] = field(default_factory=Counter)
    indices: dict[int, set[int]] = field(default_factory=dict)
    transparent: int = 0
    objects: list[int] = field(default_factory=list)
    numbered: int = 0
    unreadable: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Files that were read."""
        return sum(self.kinds.values())


def read_held(paths: Iterable[Path], megapixels: float) -> Held:
    """Sum up what mask files hold.

    Args:
        paths: of the files.
        megapixels: the limit of their size.
    """
    found = Held()
    for path in paths:
        try:
            image = open_file(read_bytes(path), path, megapixels, None, turn=False).image
        except InputError as problem:
            found.unreadable.append(str(problem))
            continue
        _add(found, image)
    return found


def _add(found: Held, image: Image.Image) -> None:
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if has_alpha else None
    image.info.pop("transparency", None)
    kind, numbers, values = _numbers(image)
    found.kinds[kind] += 1
    counts = np.bincount(numbers.ravel(), minlength=len(values))
    present = np.flatnonzero(counts)
    if kind == "palette":
        for index in present.tolist():
            found.indices.setdefault(index, set()).add(int(values[index]))
    shown = np.unique(values[present])
    if alpha is not None and alpha.min() != alpha.max() and len(shown) == 1:
        found.transparent += 1
    found.files.update(shown.tolist())
    _count(found.pixels, values, counts)
    edges = np.concatenate([numbers[0], numbers[-1], numbers[1:-1, 0], numbers[1:-1, -1]])
    _count(found.border, values, np.bincount(edges, minlength=len(values)))
    middle = numbers[1:-1, 1:-1]
    same = (middle == numbers[:-2, 1:-1]) & (middle == numbers[2:, 1:-1])
    same &= (middle == numbers[1:-1, :-2]) & (middle == numbers[1:-1, 2:])
    _count(found.inside, values, np.bincount(middle[same], minlength=len(values)))
    # Of grey values and indices, the number is the object's; of all others, the value is.
    ids = present if kind in ("grey", "palette") else values[present]
    objects = present[ids > 0]
    if len(objects) > 1:
        found.objects.append(len(objects))
        gaps = kind != "colour" and ids[-1] > MOST_GAPS * len(objects) + 2
        found.numbered += not gaps and _are_objects(numbers, objects)


def _numbers(image: Image.Image) -> tuple[str, NDArray[np.integer[Any]], Values]:
    """Kind of a mask, (H, W) numbers of its pixels, and the value that each number stands for."""
    if image.mode in ("P", "PA"):
        pixels = np.asarray(image)
        levels = np.zeros((256, 3), np.int64)
        given = image.getpalette("RGB") or []
        levels.flat[: len(given)] = given
        return "palette", pixels if pixels.ndim == 2 else pixels[..., 0], levels @ COLOUR
    if image.mode in ("1", "L", "LA", "La"):
        return "grey", np.asarray(image.convert("L")), np.arange(256) * GREY
    if image.mode.startswith(("I", "F")):
        kind, codes = "deep", np.rint(np.nan_to_num(np.asarray(image, np.float64))).astype(int)
    else:
        rgb = np.asarray(image.convert("RGB"))
        if (rgb == rgb[..., :1]).all():
            return "grey", rgb[..., 0], np.arange(256) * GREY
        kind, codes = "colour", rgb @ COLOUR
    step = math.isqrt(codes.size // MOST_SORTED) + 1
    values, numbers = np.unique(codes[::step, ::step], return_inverse=True)
    return kind, numbers.reshape(codes[::step, ::step].shape), values


def _count(counter: Counter[int], values: Values, counts: Values) -> None:
    """Add counts by value; several numbers may stand for one."""
    for at in np.flatnonzero(counts).tolist():
        counter[int(values[at])] += int(counts[at])


def _are_objects(numbers: NDArray[np.integer[Any]], objects: Values) -> bool:
    """Is each number one object?"""
    step = math.isqrt(numbers.size // MOST_SORTED) + 1
    small = numbers[::step, ::step]
    some = objects[:: -(-len(objects) // MOST_OBJECTS)].tolist()
    pieces = [cv2.connectedComponents((small == one).astype(np.uint8))[0] - 1 for one in some]
    return pieces.count(1) >= LEAST_SINGLE * len(some)
