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
    time_to_search,
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
    ignore: Path | None = None
    """Shows which pixels are ignored."""
    group: str = ""
    stratum: str = ""
    split: str = ""
    previous: str = ""
    page: int | None = None
    """Of all files, where they hold several images."""
    problem: str = ""
    """Why it cannot be used: a file is missing."""
    spacing: tuple[float, float] | None = None
    key: str = ""
    """The id by which tables name it, where `id` is another."""


Masks = dict[str, list[MaskFile]]
"""Mask files by id."""


def files_of(params: Published, archives: Sequence[Archive]) -> Path:
    """Folder of a published dataset: a local copy, or what its archives unpack to."""
    budget = int(params.limits.unpacked_gib * 2**30)
    return locate_files(params.name, archives, params.source, params.checksums, budget)


def find_pairs(
    source: Path,
    images: str,
    masks: str,
    classes: Sequence[str] = (),
    ignore: str | None = None,
) -> list[Pair]:
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
        ignore: pattern of files that show which pixels are ignored, with the names in braces that
            images have; None: there are none.

    Returns:
        Pairs in the order of their ids, those too of which a file is missing.

    Raises:
        InputError: if the folder, all images or all masks are missing, or a class is unknown.
    """
    if not source.is_dir():
        raise InputError(
            f"dataset.source: no folder at {source}; set it to where the images and masks are"
        )
    _check_fields(images, masks, ignore)
    fields = fields_of(images)
    patterns = {"image": images, "mask": masks}
    found: dict[str, dict[str, Path]] = {}
    files = sorted(files_below(source))
    taken: set[Path] = set()
    # Of a file that fits several patterns, {id}.png, {id}_{class}.png and {id}_fov.png, the ignore
    # mask's is the narrowest, then the mask's.
    if ignore:
        patterns["ignore mask"] = ignore
        found["ignore mask"] = _by_id(source, files, ignore, fields)
        taken.update(found["ignore mask"].values())
    free = [path for path in files if path not in taken]
    found_masks = _masks_by_id(source, free, images, masks, classes)
    found["mask"] = {id: ones[0].path for id, ones in found_masks.items()}
    if images != masks:  # where they are one pattern, the mask is the image's alpha channel
        taken.update(file.path for ones in found_masks.values() for file in ones)
    free = [path for path in files if path not in taken]
    found["image"] = _by_id(source, free, images, fields)
    if not all(found.values()):
        raise _nothing_matches(source, files, patterns, found)
    pairs = []
    for id in sorted(set().union(*found.values())):
        there = {kind: found[kind][id] for kind in patterns if id in found[kind]}
        absent = [kind for kind in patterns if kind not in there]
        kind, path = next(iter(there.items()))
        problem = (
            f"{path}: {kind} without {absent[0]} below {source}; "
            f"add the {absent[0]} or take the {kind} away"
            if absent
            else ""
        )
        masks_of_it = tuple(found_masks.get(id, ()))
        pairs.append(Pair(id, path, masks_of_it, there.get("ignore mask"), problem=problem))
    return pairs


def _check_fields(images: str, masks: str, ignore: str | None) -> None:
    """Raise InputError if patterns do not name the same parts."""
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
    if ignore and sorted(fields) != sorted(fields_of(ignore)):
        raise InputError(
            f"dataset.ignore: '{ignore}' names other parts than '{images}'; both need the same "
            "names in braces"
        )


def _id_of(match: Mapping[str, str], fields: Sequence[str]) -> str:
    return "/".join(match[field] for field in fields)


def _by_id(
    source: Path, files: Sequence[Path], pattern: str, fields: Sequence[str]
) -> dict[str, Path]:
    """The file of each id."""
    found = _unique(matches(source, files, pattern), fields, pattern)
    return {_id_of(match, fields): path for path, match in found}


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


def _nothing_matches(
    source: Path,
    files: list[Path],
    patterns: Mapping[str, str],
    found: Mapping[str, Mapping[str, Path]],
) -> InputError:
    """What is there where a pattern matches nothing."""
    missing = [f"'{pattern}'" for kind, pattern in patterns.items() if not found[kind]]
    names = [path.relative_to(source).as_posix() for path in files]
    there = f"there are {some_of(names)}" if names else "the folder is empty"
    deeper = [expression_of("**/" + pattern) for pattern in patterns.values()]
    with time_to_search(" ".join(patterns.values()), len(names)):
        fits = all(any(map(expression.fullmatch, map(nfc, names))) for expression in deeper)
    hint = ", put **/ in front of the patterns" if fits else ""
    return InputError(
        f"{source}: no file matches {' or '.join(missing)}; at least one pair is needed, {there}, "
        f"fix dataset.source or the patterns, in which capitals count{hint}"
    )
