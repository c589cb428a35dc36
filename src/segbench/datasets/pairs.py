"""Images and masks that lie as files in a folder: finding the pairs, and reading them."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from segbench.datasets.canonical import Sample, SampleReader
from segbench.datasets.exif import edge_strength, read_otherwise
from segbench.datasets.fetching import Archive, locate_files
from segbench.datasets.image_files import read_image
from segbench.datasets.mask_values import MaskEncoding, read_mask
from segbench.errors import InputError
from segbench.images import Pixels
from segbench.params.datasets import Limits, Published


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
    page: int | None = None
    """Of both files, where they hold several images."""


def files_of(params: Published, archives: Sequence[Archive]) -> Path:
    """Folder of a published dataset: a local copy, or what its archives unpack to."""
    budget = int(params.limits.unpacked_gib * 2**30)
    return locate_files(params.name, archives, params.source, params.checksums, budget)


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
    # Where they are one pattern, the mask is the alpha channel of the image.
    masks_alone = frozenset(found["mask"].values()) if images != masks else frozenset()
    found["image"] = _by_id(source, images, masks_alone)
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


def read_pairs(
    pairs: list[Pair],
    encoding: MaskEncoding,
    limits: Limits,
    value_range: tuple[float, float] | None = None,
    turn: bool = True,
) -> list[SampleReader]:
    """Readers of pairs of files, in the order of their ids.

    Args:
        pairs: where they lie.
        encoding: of their masks.
        limits: of the dataset.
        value_range: of 16-bit images, the values that become 0 and 255.
        turn: images and masks upright, as the EXIF of each says; else as stored.
    """
    read = partial(_read_pair, encoding=encoding, limits=limits, value_range=value_range, turn=turn)
    ordered = sorted(pairs, key=lambda pair: pair.id)
    return [SampleReader(1, partial(read, pair)) for pair in ordered]


def _read_pair(
    pair: Pair,
    encoding: MaskEncoding,
    limits: Limits,
    value_range: tuple[float, float] | None,
    turn: bool,
) -> list[Sample]:
    image = read_image(pair.image, limits.megapixels, value_range, pair.page, turn)
    file = read_mask(pair.mask, encoding, limits.megapixels, pair.page, turn)
    mask = file.class_ids
    (height, width), (mask_height, mask_width) = image.pixels.shape[:2], mask.shape
    off = _size_difference(image.pixels, mask)
    other = read_otherwise(image.pixels, mask, (image.orientation, file.orientation), turn)
    if other and _size_difference(*other) > limits.size_difference:
        other = None
    if 0 < off <= limits.size_difference:
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    elif off and other:
        raise InputError(
            f"{pair.image}: its mask is {mask_width}x{mask_height} but the image is "
            f"{width}x{height}, {'turned' if turn else 'not turned'} as EXIF says; sizes must "
            f"agree, set dataset.exif: {'ignore' if turn else 'turn'}"
        )
    elif off:
        raise InputError(
            f"{pair.image}: its mask is {mask_width}x{mask_height} but the image is "
            f"{width}x{height}; dataset.limits.size_difference allows {limits.size_difference} "
            "pixels, fix the pair or raise it"
        )
    strength = edge_strength(image.pixels, mask) if other else 0.0
    orientation = image.orientation if image.orientation != 1 else file.orientation
    exif = f"{'turned' if turn else 'ignored'} {orientation}" if orientation != 1 else ""
    return [
        Sample(
            id=pair.id,
            image=image.pixels,
            mask=mask,
            group=pair.group or pair.id,
            stratum=pair.stratum,
            source=str(pair.image),
            split=pair.split,
            previous=pair.previous,
            encoded=image.encoded,
            mask_values=file.num_values,
            mask_between=file.between,
            mask_resized=off > 0,
            palette=file.palette,
            exif=exif,
            exif_other=edge_strength(*other) / strength if other and strength else 0.0,
            clipped=image.clipped,
        )
    ]


def _size_difference(image: Pixels, mask: Pixels) -> int:
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    return max(abs(height - mask_height), abs(width - mask_width))
