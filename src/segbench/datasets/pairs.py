"""Images and masks that lie as files in a folder: which of them belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.datasets.doubts import some_of
from segbench.datasets.fetching import Archive, locate_files
from segbench.datasets.mask_files import MaskFile
from segbench.datasets.patterns import (
    OF_MASKS,
    expression_of,
    fields_of,
    files_below,
    matches,
    nfc,
)
from segbench.errors import InputError
from segbench.params.datasets import Published

# Classes that a message names.
MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its mask files, with what is known of the sample; see `Sample`."""

    id: str
    image: Path
    masks: tuple[MaskFile, ...]
    group: str = ""
    stratum: str = ""
    split: str = ""
    previous: str = ""
    page: int | None = None
    """Of all files, where they hold several images."""
    problem: str = ""
    """Why it cannot be used: a file is missing."""
    key: str = ""
    """The id by which tables name it, where `id` is another."""


Masks = dict[str, list[MaskFile]]
"""Mask files by id."""


def files_of(params: Published, archives: Sequence[Archive]) -> Path:
    """Folder of a published dataset: a local copy, or what its archives unpack to."""
    budget = int(params.limits.unpacked_gib * 2**30)
    return locate_files(params.name, archives, params.source, params.checksums, budget)


def find_pairs(source: Path, images: str, masks: str, classes: Sequence[str] = ()) -> list[Pair]:
    """Match the images and masks below a folder by what their patterns have in common.

    Args:
        source: the folder.
        images: pattern relative to it: `{id}` stands for the id, any other name in braces for a
            folder or part of a name that belongs to the id too, `*` for anything within a name,
            `**` for any folders. Hidden files never match. An ending matches in capitals also.
        masks: likewise, with the same names in braces. Beside them `{class}` may stand for one of
            the classes, which is the foreground of the file, and `{part}` for what tells several
            masks of one image apart.
        classes: names by class id, for `{class}`.

    Returns:
        Pairs in the order of their ids, those too of which a file is missing.

    Raises:
        InputError: if the folder, all images or all masks are missing, or a class is unknown.
    """
    if not source.is_dir():
        raise InputError(
            f"dataset.source: no folder at {source}; set it to where the images and masks are"
        )
    fields = fields_of(images)
    for name in OF_MASKS:
        if name in fields:
            raise InputError(
                f"dataset.images: '{images}' names {{{name}}}, which dataset.masks alone may; call "
                "it by another name in both"
            )
    if sorted(fields) != sorted(set(fields_of(masks)) - set(OF_MASKS)):
        raise InputError(
            f"dataset.masks: '{masks}' names other parts than '{images}'; both need the same names "
            "in braces, as in {folder}/images/{id}.png and {folder}/masks/{id}.png"
        )
    files = sorted(files_below(source))
    found_masks = _masks_by_id(source, files, images, masks, classes)
    # Of a file that fits both patterns, {id}.png and {id}_mask.png, the mask's is the narrower.
    # Where they are one pattern, the mask is the alpha channel of the image.
    taken = {file.path for ones in found_masks.values() for file in ones}
    free = [path for path in files if path not in taken] if images != masks else files
    found_images = {
        _id_of(match, fields): path
        for path, match in _unique(matches(source, free, images), fields, images)
    }
    if not found_images or not found_masks:
        found = {images: bool(found_images), masks: bool(found_masks)}
        raise _nothing_matches(source, files, found)
    pairs = [
        Pair(id, path, tuple(found_masks[id]))
        for id, path in found_images.items()
        if id in found_masks
    ]
    without = [(id, path, "image", "mask") for id, path in found_images.items()]
    without += [(id, ones[0].path, "mask", "image") for id, ones in found_masks.items()]
    for id, path, kind, other in without:
        if id not in found_images or id not in found_masks:
            problem = (
                f"{path}: {kind} without {other} below {source}; "
                f"add the {other} or take the {kind} away"
            )
            pairs.append(Pair(id, path, (), problem=problem))
    return sorted(pairs, key=lambda pair: (pair.id, pair.problem))


def _id_of(match: Mapping[str, str], fields: Sequence[str]) -> str:
    return "/".join(match[field] for field in fields)


def _unique(
    found: Mapping[Path, Mapping[str, str]], fields: Sequence[str], pattern: str
) -> list[tuple[Path, Mapping[str, str]]]:
    """Files and what their names mean; InputError if two of them mean the same."""
    by_meaning: dict[tuple[str, ...], Path] = {}
    for path, match in found.items():
        meaning = tuple(match[field] for field in fields)
        other = by_meaning.setdefault(meaning, path)
        if other != path:
            raise InputError(
                f"{path}: has the id '{'/'.join(meaning)}' of {other}; ids must be unique, narrow "
                f"the pattern '{pattern}' or dataset.source, or name a folder in it: "
                "{folder}/{id}.png"
            )
    return list(found.items())


def _masks_by_id(
    source: Path, files: list[Path], images: str, masks: str, classes: Sequence[str]
) -> Masks:
    """Mask files by id; those of one image in the order of their names."""
    fields = fields_of(images)
    of_class = "{class}" in masks
    found = matches(source, files, masks, classes if of_class else ())
    if of_class:
        _check_classes(source, files, images, masks, classes, found)
    class_ids = {nfc(name): at for at, name in enumerate(classes)}
    by_id: Masks = {}
    own = [*fields, *(name for name in OF_MASKS if f"{{{name}}}" in masks)]
    for path, match in _unique(found, own, masks):
        file = MaskFile(path, class_ids[match["class"]] if of_class else None)
        by_id.setdefault(_id_of(match, fields), []).append(file)
    return by_id


def _check_classes(
    source: Path,
    files: list[Path],
    images: str,
    masks: str,
    classes: Sequence[str],
    found: Mapping[Path, Mapping[str, str]],
) -> None:
    """Raise InputError if names of mask files name a class that is not defined."""
    rest = [path for path in files if path not in found]
    others = matches(source, rest, masks)
    # In one folder with the masks, {id}_{class}.png, an image's own name may look like a mask's.
    shared = matches(source, list(others), images)
    unknown: dict[str, list[Path]] = {}
    for path, match in others.items():
        if path not in shared:
            unknown.setdefault(match["class"], []).append(path)
    if not unknown:
        return
    there = sorted({*unknown, *(match["class"] for match in found.values())})
    name, paths = next(iter(unknown.items()))
    raise InputError(
        f"dataset.masks: {{class}} in '{masks}' finds {', '.join(there[:MOST_NAMED])}"
        f"{' and more' if len(there) > MOST_NAMED else ''}, of which '{name}' ({len(paths)} files, "
        f"as {paths[0].relative_to(source).as_posix()}) is none of dataset.classes "
        f"({', '.join(classes)}), in which capitals count; add it there or take its files away"
    )


def _nothing_matches(source: Path, files: list[Path], found: Mapping[str, bool]) -> InputError:
    """What is there where a pattern matches nothing."""
    missing = [f"'{pattern}'" for pattern, there in found.items() if not there]
    names = [path.relative_to(source).as_posix() for path in files]
    there = f"there are {some_of(names)}" if names else "the folder is empty"
    deeper = [expression_of("**/" + pattern) for pattern in found]
    hint = (
        ", put **/ in front of the patterns"
        if all(any(map(expression.fullmatch, map(nfc, names))) for expression in deeper)
        else ""
    )
    return InputError(
        f"{source}: no file matches {' or '.join(missing)}; at least one pair is needed, {there}, "
        f"fix dataset.source or the patterns, in which capitals count{hint}"
    )
