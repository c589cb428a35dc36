"""Images and masks that lie as files in a folder: finding the pairs, and reading them."""

import errno
import io
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from segbench.datasets.canonical import Sample, Task
from segbench.errors import InputError
from segbench.fetching import Archive, obtain
from segbench.images import Pixels, open_image
from segbench.params.datasets import Limits, Published

# What Pillow raises for files that are torn or foreign.
UNREADABLE = (
    *(UnidentifiedImageError, OSError, SyntaxError, ValueError),
    *(EOFError, IndexError, NotImplementedError, struct.error, MemoryError),
)
# How Pillow reads colours of 16 bits, of which it drops the lower half.
DEEP_COLOUR = re.compile(";16[BLN]")
ORIENTATION = 0x0112
CANONICAL_FORMATS = {"PNG": ".png", "JPEG": ".jpg"}
# A binary mask has edges that a lossy format or a resizing made grey, not areas of grey.
GREY, MOST_GREY = range(32, 224), 0.2
# So few values of which so many pixels are small are class ids: a lossy format makes more values,
# and stray pixels are fewer.
FEW_VALUES, MOST_SMALL = 4, 0.01


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its mask file, with what is known of the sample; see `Sample`."""

    id: str
    image: Path
    mask: Path
    group: str = ""
    stratum: str = ""
    split: str = ""
    previous: str = ""
    page: int = 0
    """Of both files, where they hold several images."""


def files_of(params: Published, archives: Sequence[Archive]) -> Path:
    """Folder of a published dataset: a local copy, or what its archives unpack to."""
    room = int(params.limits.unpacked_gib * 2**30)
    return obtain(params.name, archives, params.source, params.checksums, room)


def find_pairs(source: Path, images: str, masks: str) -> list[Pair]:
    """Match the images and masks below a folder by their common `{id}`.

    Args:
        source: the folder.
        images: pattern relative to it: `{id}` stands for the id, `*` for anything within a name,
            `**` for any folders. Hidden files never match.
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
    expression = re.escape(pattern)
    for part, meaning in parts.items():
        expression = expression.replace(part, meaning)
    files: dict[str, Path] = {}
    for path in sorted(_files(source)):
        name = path.relative_to(source).as_posix()
        match = re.fullmatch(expression, name)
        if not match or path in other:
            continue
        if os.fsencode(name) != name.encode(errors="replace"):
            raise InputError(f"{source}: the file name {name!r} is not UTF-8; rename it")
        if match["id"] in files:
            raise InputError(
                f"{path}: has the id '{match['id']}' of {files[match['id']]}; "
                f"ids must be unique, narrow the pattern '{pattern}' or dataset.source"
            )
        files[match["id"]] = path
    return files


def _files(source: Path) -> Iterator[Path]:
    """Files below a folder, also behind links, but hidden ones; no folder twice, so no loop."""
    seen = set()
    for folder, folders, names in os.walk(source, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in names if not name.startswith("."))


@dataclass(frozen=True)
class Decode:
    """How the values of a mask's file become class ids.

    Attributes:
        table: (256,) class id of each grey value or palette index.
        known: values that may occur; others are an error.
        colours: class id by colour code (red << 16 | green << 8 | blue), or None for grey masks.
        threshold: from which a grey value is foreground; 0 where every value has its own meaning.
    """

    table: Pixels
    known: frozenset[int]
    colours: dict[int, int] | None = None
    threshold: int = 0


def by_threshold(threshold: int, invert: bool = False) -> Decode:
    """Class 1 from `threshold` up, class 0 below; the other way round if inverted."""
    table = (np.arange(256) >= threshold) != invert
    return Decode(table.astype(np.uint8), frozenset(range(256)), threshold=threshold)


def by_values(classes: dict[int, int]) -> Decode:
    """A class id for each grey value or palette index."""
    table = np.zeros(256, np.uint8)
    table[list(classes)] = list(classes.values())
    return Decode(table, frozenset(classes))


def by_colours(classes: dict[str, int]) -> Decode:
    """A class id for each colour, `#rrggbb`."""
    codes = {int(colour[1:], 16): class_id for colour, class_id in classes.items()}
    return Decode(np.arange(256, dtype=np.uint8), frozenset(range(256)), codes)


def read_pairs(
    pairs: list[Pair],
    decode: Decode,
    limits: Limits,
    value_range: tuple[int, int] | None = None,
) -> list[Task]:
    """Tasks that read pairs of files, in the order of their ids.

    Args:
        pairs: where they lie.
        decode: of their masks.
        limits: of the dataset.
        value_range: of 16-bit images, the values that become 0 and 255.
    """
    read = partial(_read_pair, decode=decode, limits=limits, value_range=value_range)
    ordered = sorted(pairs, key=lambda pair: pair.id)
    return [Task(1, partial(read, pair)) for pair in ordered]


def _read_pair(
    pair: Pair, decode: Decode, limits: Limits, value_range: tuple[int, int] | None
) -> list[Sample]:
    image, encoded = read_image(pair.image, limits.megapixels, value_range, pair.page)
    mask, num_values, between = read_mask(pair.mask, decode, limits.megapixels, pair.page)
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    off = max(abs(height - mask_height), abs(width - mask_width))
    if 0 < off <= limits.size_difference:
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    elif off:
        raise InputError(
            f"{pair.image}: its mask is {mask_width}x{mask_height} but the image is "
            f"{width}x{height}; dataset.limits.size_difference allows {limits.size_difference} "
            "pixels, fix the pair or raise it"
        )
    return [
        Sample(
            *(pair.id, image, mask, pair.group or pair.id, pair.stratum, str(pair.image)),
            split=pair.split,
            previous=pair.previous,
            encoded=encoded,
            mask_values=num_values,
            mask_between=between,
            mask_resized=off > 0,
        )
    ]


def _open(data: bytes, path: Path, megapixels: float, page: int) -> tuple[Image.Image, str]:
    """The upright image and its format, which is empty where the file shows it otherwise."""
    try:
        with open_image(io.BytesIO(data), _formats()) as image:
            if page:
                image.seek(page)
            size = image.size
            if size[0] * size[1] > megapixels * 1e6:
                raise InputError(
                    f"{path}: {size[0]}x{size[1]} pixels, dataset.limits.megapixels allows "
                    f"{megapixels:g} million; cut it into tiles or raise the limit"
                )
            deep = any(DEEP_COLOUR.search(str(tile[3])) for tile in image.tile)
            if deep and not image.mode.startswith("I"):
                raise InputError(
                    f"{path}: more than 8 bits a channel (in colour), the limit is 8; convert it"
                )
            image.load()
            if image.size != size:
                raise InputError(
                    f"{path}: decodes to {image.size[0]}x{image.size[1]} but its header says "
                    f"{size[0]}x{size[1]}; replace the file or take the pair away"
                )
            turned = image.getexif().get(ORIENTATION, 1) != 1
            upright = ImageOps.exif_transpose(image)
            upright.info.pop("transparency", None)  # of which Pillow warns when it drops it
            return upright, "" if turned or page else image.format or ""
    except InputError:
        raise
    except UNREADABLE as error:
        unknown = isinstance(error, UnidentifiedImageError)  # whose message has an address in it
        reason = "of no known format" if unknown else " ".join(str(error).split())
        raise InputError(
            f"{path}: unreadable as an image ({reason}); replace the file or take the pair away"
        ) from None


@cache
def _formats() -> list[str]:
    """All that Pillow reads, but what it decodes before a size can be checked, or by a program."""
    Image.init()
    return sorted(Image.OPEN.keys() - {"ICO", "EPS"})


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        if problem.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        raise InputError(
            f"{path}: gone, or a link to nothing; fetch what it points to or take the pair away"
        ) from None


def read_image(
    path: Path, megapixels: float, value_range: tuple[int, int] | None, page: int = 0
) -> tuple[Pixels, tuple[str, bytes] | None]:
    """Read an image file upright.

    Returns:
        (H, W, 3) RGB or (H, W) grey; and the file's ending and bytes if it is canonical already:
        a PNG or JPEG that decodes to these pixels.
    """
    data = _read_bytes(path)
    image, format = _open(data, path, megapixels, page)
    if image.mode.startswith(("I", "F")):
        return _scale(image, path, value_range), None
    if image.mode in ("RGB", "L"):
        encoded = (CANONICAL_FORMATS[format], data) if format in CANONICAL_FORMATS else None
        return np.asarray(image), encoded
    return np.asarray(image.convert("L" if image.mode in ("1", "LA") else "RGB")), None


def _scale(image: Image.Image, path: Path, value_range: tuple[int, int] | None) -> Pixels:
    if value_range is None:
        raise InputError(
            f"{path}: more than 8 bits a channel (mode {image.mode}), the limit is 8; convert it, "
            "or say in dataset.value_range which values become 0 and 255 (dataset.name: folder)"
        )
    low, high = value_range
    scaled = (np.asarray(image, np.float32) - low) * (255 / (high - low))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def read_mask(
    path: Path, decode: Decode, megapixels: float, page: int = 0
) -> tuple[Pixels, int, float]:
    """Read a mask file upright; an alpha channel is ignored.

    Returns:
        (H, W) class ids; how many values the file holds; the share of its pixels that hold neither
        the least nor the greatest of them.
    """
    image, _ = _open(_read_bytes(path), path, megapixels, page)
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{path}: a mask of more than 8 bits (mode {image.mode}), the limit is 8; convert it"
        )
    if decode.colours is not None:
        return _decode_colours(np.asarray(image.convert("RGB")), decode.colours, path)
    if image.mode in ("CMYK", "YCbCr"):
        image = image.convert("RGB")
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if values.ndim == 3:
        colours = values[..., : 1 if image.mode in ("LA", "PA") else 3]
        if (colours != colours[..., :1]).any():
            raise InputError(
                f"{path}: a mask in colours, but dataset.mask understands grey values or palette "
                "indices; convert it or use dataset.mask.colours"
            )
        values = np.ascontiguousarray(colours[..., 0])
    counts = count_values(values)
    present = np.flatnonzero(counts)
    _check_values(present, counts, decode, path)
    between = 1 - float(counts[present[[0, -1]]].sum()) / values.size
    return cv2.LUT(values, decode.table), len(present), between if len(present) > 2 else 0.0


def count_values(values: Pixels) -> NDArray[np.int64]:
    """(256,): how many pixels hold each value. Masks seldom hold more than two or three."""
    counts = np.zeros(256, np.int64)
    for value in (int(values.min()), int(values.max()), 1):
        counts[value] = np.count_nonzero(values == value)
    if counts.sum() < values.size:
        counts[:] = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel()
    return counts


def _check_values(
    present: NDArray[np.int64], counts: NDArray[np.int64], decode: Decode, path: Path
) -> None:
    """Raise InputError for a mask of another kind."""
    undefined = sorted(set(present.tolist()) - decode.known)
    if undefined:
        raise InputError(
            f"{path}: the mask holds the values {undefined[:8]}, but {sorted(decode.known)} are "
            "defined; is it a mask of another dataset? define them in dataset.mask.values or use "
            "dataset.mask.threshold"
        )
    if not decode.threshold:
        return
    if 0 < present[-1] < decode.threshold:
        raise InputError(
            f"{path}: the mask holds values up to {present[-1]} only, all below the threshold "
            f"{decode.threshold}; are they class ids? use dataset.mask.values"
        )
    small = float(counts[1 : GREY.start].sum() / counts.sum())
    if len(present) <= FEW_VALUES and small > MOST_SMALL:
        raise InputError(
            f"{path}: the mask holds the values {present.tolist()}, of which a threshold of "
            f"{decode.threshold} makes two classes; are they class ids? use dataset.mask.values"
        )
    grey = float(counts[GREY.start : GREY.stop].sum() / counts.sum())
    if grey > MOST_GREY:
        raise InputError(
            f"{path}: {100 * grey:.0f} % of the mask's pixels are neither dark nor bright, at most "
            f"{100 * MOST_GREY:.0f} % are taken for edges; is it a photograph, or class ids?"
        )


def _decode_colours(
    pixels: Pixels, classes: dict[int, int], path: Path
) -> tuple[Pixels, int, float]:
    known = np.array(sorted(classes), np.uint32)
    table = np.array([classes[code] for code in sorted(classes)], np.uint8)
    mask = np.empty(pixels.shape[:2], np.uint8)
    present: set[int] = set()
    for row, colours in enumerate(pixels):
        codes = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        index = np.searchsorted(known, codes).clip(max=len(known) - 1)
        wrong = codes[known[index] != codes]
        if len(wrong):
            raise InputError(
                f"{path}: the mask holds the undefined colour #{wrong[0]:06x}, {len(classes)} are "
                "defined; define it in dataset.mask.colours"
            )
        mask[row] = table[index]
        present.update(np.unique(index).tolist())
    return mask, len(present), 0.0
