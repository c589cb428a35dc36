"""Images and masks that lie as files in a folder: finding the pairs, and reading them."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from segbench.datasets.canonical import Sample, SampleReader
from segbench.datasets.doubts import some_of
from segbench.datasets.exif import edge_strength, read_otherwise
from segbench.datasets.fetching import Archive, locate_files
from segbench.datasets.image_files import read_image
from segbench.datasets.mask_values import MaskEncoding, read_mask
from segbench.errors import InputError
from segbench.images import Pixels
from segbench.params.datasets import Limits, Published

# A mask whose size differs by more pixels was hardly resized or cropped by accident.
SMALL_DIFFERENCE = 8


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
    problem: str = ""
    """Why it cannot be used: one of both files is missing."""


def files_of(params: Published, archives: Sequence[Archive]) -> Path:
    """Folder of a published dataset: a local copy, or what its archives unpack to."""
    budget = int(params.limits.unpacked_gib * 2**30)
    return locate_files(params.name, archives, params.source, params.checksums, budget)


def find_pairs(source: Path, images: str, masks: str) -> list[Pair]:
    """Match the images and masks below a folder by what their patterns have in common.

    Args:
        source: the folder.
        images: pattern relative to it: `{id}` stands for the id, any other name in braces for a
            folder or part of a name that belongs to the id too, `*` for anything within a name,
            `**` for any folders. Hidden files never match. An ending matches in capitals also.
        masks: likewise, with the same names in braces.

    Returns:
        Pairs in the order of their ids, those too of which one file is missing.

    Raises:
        InputError: if the folder, all images or all masks are missing.
    """
    if not source.is_dir():
        raise InputError(
            f"dataset.source: no folder at {source}; set it to where the images and masks are"
        )
    fields = _fields(images)
    if sorted(fields) != sorted(_fields(masks)):
        raise InputError(
            f"dataset.masks: '{masks}' names other parts than '{images}'; both need the same names "
            "in braces, as in {folder}/images/{id}.png and {folder}/masks/{id}.png"
        )
    files = sorted(_files(source))
    found = {"mask": _by_id(source, files, masks, fields, frozenset())}
    # Of a file that fits both patterns, {id}.png and {id}_mask.png, the mask's is the narrower.
    # Where they are one pattern, the mask is the alpha channel of the image.
    masks_alone = frozenset(found["mask"].values()) if images != masks else frozenset()
    found["image"] = _by_id(source, files, images, fields, masks_alone)
    if not found["image"] or not found["mask"]:
        raise _nothing_matches(source, files, {"image": images, "mask": masks}, found)
    pairs = [
        Pair(id, path, found["mask"][id])
        for id, path in found["image"].items()
        if id in found["mask"]
    ]
    for kind, other in (("image", "mask"), ("mask", "image")):
        for id in found[kind].keys() - found[other].keys():
            path = found[kind][id]
            problem = (
                f"{path}: {kind} without {other} below {source}; "
                f"add the {other} or take the {kind} away"
            )
            pairs.append(Pair(id, path, path, problem=problem))
    return sorted(pairs, key=lambda pair: (pair.id, pair.problem))


def unmatched_files(source: Path, patterns: Sequence[str], other: Sequence[Path]) -> list[str]:
    """Files below a folder that no pattern matches, by their names relative to it.

    Args:
        source: the folder.
        patterns: as `find_pairs` takes them.
        other: files that have a use of their own.
    """
    expressions = [_expression(pattern) for pattern in patterns]
    names = [
        path.relative_to(source).as_posix() for path in sorted(_files(source)) if path not in other
    ]
    return [
        name
        for name in names
        if not any(map(re.Pattern.fullmatch, expressions, [_nfc(name)] * len(expressions)))
    ]


def _fields(pattern: str) -> list[str]:
    """Names in braces of a pattern, which must have `{id}` and none twice."""
    fields = re.findall(r"\{([a-z_]+)\}", pattern)
    if fields.count("id") != 1:
        raise InputError(f"pattern '{pattern}': needs {{id}} exactly once, as in images/{{id}}.png")
    if len(set(fields)) < len(fields):
        raise InputError(f"pattern '{pattern}': has a name in braces twice; use another or *")
    return fields


def _expression(pattern: str) -> re.Pattern[str]:
    """Regular expression of a pattern, for names in NFC."""
    expression = re.escape(_nfc(pattern))
    expression = re.sub(r"\\\{([a-z_]+)\\\}", r"(?P<\1>[^/]+)", expression)
    for part, meaning in {r"\*\*/": r"(?:.*/)?", r"\*": r"[^/]*"}.items():
        expression = expression.replace(part, meaning)
    # .jpg and .JPG are one format.
    expression = re.sub(r"\\\.([A-Za-z0-9]+)$", r"\\.(?i:\1)", expression)
    return re.compile(expression)


def _nfc(name: str) -> str:
    """A name in composed Unicode: macOS decomposes those that it writes."""
    return unicodedata.normalize("NFC", name)


def _by_id(
    source: Path, files: list[Path], pattern: str, fields: list[str], other: frozenset[Path]
) -> dict[str, Path]:
    """Files below a folder that match a pattern, by id, but those in `other`."""
    expression = _expression(pattern)
    by_id: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(source).as_posix()
        match = expression.fullmatch(_nfc(name))
        if not match or path in other:
            continue
        if os.fsencode(name) != name.encode(errors="replace"):
            raise InputError(f"{source}: the file name {name!r} is not UTF-8; rename it")
        id = "/".join(match[field] for field in fields)
        if id in by_id:
            raise InputError(
                f"{path}: has the id '{id}' of {by_id[id]}; ids must be unique, narrow the pattern "
                f"'{pattern}' or dataset.source, or name a folder in it: {{folder}}/{{id}}.png"
            )
        by_id[id] = path
    return by_id


def _nothing_matches(
    source: Path, files: list[Path], patterns: dict[str, str], found: dict[str, dict[str, Path]]
) -> InputError:
    """What is there where a pattern matches nothing."""
    missing = [f"'{pattern}'" for kind, pattern in patterns.items() if not found[kind]]
    names = [path.relative_to(source).as_posix() for path in files]
    there = f"there are {some_of(names)}" if names else "the folder is empty"
    deeper = [_expression("**/" + pattern) for pattern in patterns.values()]
    hint = (
        ", put **/ in front of the patterns"
        if all(any(map(expression.fullmatch, map(_nfc, names))) for expression in deeper)
        else ""
    )
    return InputError(
        f"{source}: no file matches {' or '.join(missing)}; at least one pair is needed, {there}, "
        f"fix dataset.source or the patterns, in which capitals count{hint}"
    )


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
    if pair.problem:
        raise InputError(pair.problem)
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
            f"pixels, fix the pair{' or raise it' if off <= SMALL_DIFFERENCE else ''}"
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
