"""Images and masks that lie as files in a folder: finding the pairs, and reading them."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from segbench.datasets.canonical import Sample, SampleReader
from segbench.datasets.fetching import Archive, locate_files
from segbench.datasets.image_files import read_image
from segbench.datasets.mask_values import MaskEncoding, read_mask
from segbench.errors import InputError
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
    page: int = 0
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


def read_pairs(
    pairs: list[Pair],
    encoding: MaskEncoding,
    limits: Limits,
    value_range: tuple[int, int] | None = None,
) -> list[SampleReader]:
    """Readers of pairs of files, in the order of their ids.

    Args:
        pairs: where they lie.
        encoding: of their masks.
        limits: of the dataset.
        value_range: of 16-bit images, the values that become 0 and 255.
    """
    read = partial(_read_pair, encoding=encoding, limits=limits, value_range=value_range)
    ordered = sorted(pairs, key=lambda pair: pair.id)
    return [SampleReader(1, partial(read, pair)) for pair in ordered]


def _read_pair(
    pair: Pair, encoding: MaskEncoding, limits: Limits, value_range: tuple[int, int] | None
) -> list[Sample]:
    image, encoded = read_image(pair.image, limits.megapixels, value_range, pair.page)
    mask, num_values, between = read_mask(pair.mask, encoding, limits.megapixels, pair.page)
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
            id=pair.id,
            image=image,
            mask=mask,
            group=pair.group or pair.id,
            stratum=pair.stratum,
            source=str(pair.image),
            split=pair.split,
            previous=pair.previous,
            encoded=encoded,
            mask_values=num_values,
            mask_between=between,
            mask_resized=off > 0,
        )
    ]
