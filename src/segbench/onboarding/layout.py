"""Which files are images, which are masks, and by which patterns they go together."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from segbench.datasets.image_files import UNREADABLE
from segbench.datasets.patterns import fields_of
from segbench.errors import InputError
from segbench.images import open_image
from segbench.onboarding.listing import Listing, annotations
from segbench.onboarding.looks import MASK_FROM, Look
from segbench.onboarding.matching import (
    MOST_CLASSES,
    Levels,
    Match,
    field_names,
    match_families,
    of_one_depth,
)
from segbench.onboarding.names import (
    IGNORE_WORDS,
    IMAGE_WORDS,
    MASK_WORDS,
    SECOND_CHOICE,
    File,
    are_class_names,
    read_name,
    with_splits,
)
from segbench.onboarding.roles import Families, find_roles, look_at_some

# Share of the images that must have a mask, or of the masks that must have an image.
LEAST_PAIRED, LEAST_USED = 0.3, 0.8
# A field of view is large, and nearly the same in all images.
FIELD_AREA, FIELD_LIKENESS, FIELD_SIZE, FIELD_LOOKED_AT = 0.4, 0.9, 64, 5


@dataclass(frozen=True)
class Layout:
    """How the files of images and masks are called.

    Attributes:
        images, masks: patterns.
        ignore: pattern of a field of view, or None.
        matched: names of images that have a mask.
        alone: names of images that have none.
        class_names: what `{class}` stands for, in order; empty if there is none.
        splits: images by what `{split}` stands for.
        asked: what a person should decide: a key and a question each.
    """

    images: str
    masks: str
    matched: list[str]
    alone: list[str]
    ignore: str | None = None
    class_names: tuple[str, ...] = ()
    splits: Counter[str] = field(default_factory=Counter)
    asked: tuple[tuple[str, str], ...] = ()

    @property
    def fields(self) -> list[str]:
        """Names in braces, in the order of the parts of an id."""
        return fields_of(self.images)


def guess_layout(listing: Listing) -> Layout:
    """Find the patterns of images and masks.

    Raises:
        InputError: if nothing looks like masks, or they do not fit the images.
    """
    plain = [read_name(name) for name in listing.images]
    looks = look_at_some(listing.folder, plain)
    if not looks:
        raise InputError(
            f"{listing.folder}: none of its {len(plain)} images can be read, such as "
            f"{plain[0].name}; are they whole?"
        )
    best: Layout | None = None
    for files in dict.fromkeys((tuple(with_splits(plain)), tuple(plain))):
        roles = find_roles(files, looks)
        found = _best_match(listing.folder, *roles) if roles else None
        if found and (best is None or _is_better(found, best)):
            best = found
    if best:
        return best
    transparent = sum(look.alpha for look in looks.values())
    if transparent > 0.8 * len(looks):
        return _in_alpha(plain)
    known = annotations(listing)
    counted = f"{len(plain)} image{'s' if len(plain) > 1 else ''}"
    if known:
        raise InputError(f"{listing.folder}: found {counted}, and {known}")
    likeness = sorted(look.likeness for look in looks.values())
    if likeness[-1] < MASK_FROM:
        raise InputError(
            f"{listing.folder}: found {counted} and nothing that looks like masks (files of few "
            "values in even areas); name the folder that holds both images and masks"
        )
    if likeness[0] >= MASK_FROM:
        raise InputError(
            f"{listing.folder}: found {counted} that all look like masks (few values in even "
            "areas); name the folder that holds both images and masks"
        )
    raise InputError(
        f"{listing.folder}: found {counted}, masks among them, but their names do not go together, "
        f"such as {_example(looks, False)} and {_example(looks, True)}; give an image and its mask "
        "equal names in two folders, images/ and masks/"
    )


def _is_better(layout: Layout, other: Layout) -> bool:
    """Does it match more, or as much with fewer images left?"""
    more = len(layout.matched) - len(other.matched)
    return more > 0.1 * len(other.matched) or (more >= 0 and len(layout.alone) < len(other.alone))


def _example(looks: dict[str, Look], mask: bool) -> str:
    return next(name for name, look in looks.items() if (look.likeness >= MASK_FROM) == mask)


def _best_match(folder: Path, images: Families, masks: Families) -> Layout | None:
    """The two families that fit best, and what else fits these images."""
    found: dict[tuple[str, str], Match] = {}
    for one, other in product(images, masks):
        if match := match_families(images[one], masks[other]):
            found[one, other] = match
    enough = {
        key: match
        for key, match in found.items()
        if len(match.matched)
        >= min(LEAST_PAIRED * len(images[key[0]]), LEAST_USED * len(masks[key[1]]))
    }
    if not enough:
        return None
    most = max(len(match.matched) for match in enough.values())
    as_good = {key: match for key, match in enough.items() if len(match.matched) >= 0.9 * most}
    fields_of_view = _fields_of_view(folder, {key[1]: masks[key[1]] for key in as_good})

    def liking(key: tuple[str, str]) -> tuple[float, ...]:
        one, other = key
        second = bool(SECOND_CHOICE.search(one)) + bool(SECOND_CHOICE.search(other))
        named = bool(IMAGE_WORDS.search(one)) + bool(MASK_WORDS.search(other))
        match = as_good[key]
        return (other not in fields_of_view, -second, named, len(match.matched), -match.unused)

    one, other = max(as_good, key=liking)
    chosen = as_good[one, other]
    ignore, asked = None, []
    of_classes = _by_class(one, other, found, fields_of_view)
    for rival in (key[1] for key in as_good if key[0] == one and key[1] != other):
        again = match_families(images[one], masks[rival], chosen.affix)
        same = again and fields_of(again.images) == fields_of(chosen.images)
        if rival in fields_of_view and again and same:
            ignore = again.masks
        elif of_classes is None or rival not in of_classes.class_names:
            text = f"'{as_good[one, rival].masks}' fits the images as well; is it the truth?"
            asked.append(("masks", text))
    for rival in (key[0] for key in as_good if key[1] == other and key[0] != one):
        text = f"'{as_good[rival, other].images}' fits the masks as well; are these the images?"
        asked.append(("images", text))
    chosen = of_classes or chosen
    return Layout(
        images=chosen.images,
        masks=chosen.masks,
        matched=[file.name for file in chosen.matched],
        alone=[file.name for file in chosen.alone],
        ignore=ignore,
        class_names=chosen.class_names,
        splits=Counter(file.split for file in chosen.matched if "{split}" in chosen.images),
        asked=tuple(asked),
    )


def _by_class(
    one: str, other: str, found: dict[tuple[str, str], Match], fields_of_view: set[str]
) -> Match | None:
    """Families of masks that are called by classes, side by side: `crack/01.png`, `spall/01.png`.

    Args:
        one: the family of images.
        other: that of masks that fits best.
        found: all matches.
        fields_of_view: families of masks that are none.
    """
    chosen = found[one, other]
    pattern = chosen.masks.replace(other, "{class}", 1)
    several = {
        value: match
        for (family, value), match in found.items()
        if family == one
        and value not in fields_of_view
        and not MASK_WORDS.search(value)
        and not SECOND_CHOICE.search(value)
        and match.images == chosen.images
        and match.masks.replace(value, "{class}", 1) == pattern
    }
    if other not in several or len(several) < 2 or not are_class_names({*several}, MOST_CLASSES):
        return None
    matched = {file: None for match in several.values() for file in match.matched}
    return replace(
        chosen,
        masks=pattern,
        matched=list(matched),
        alone=[file for file in (*chosen.matched, *chosen.alone) if file not in matched],
        class_names=tuple(sorted(several)),
    )


def _fields_of_view(folder: Path, masks: Families) -> set[str]:
    """Families that show where an image is, not what is in it; never all of them."""
    found = {value for value, files in masks.items() if _is_field_of_view(folder, value, files)}
    return found if len(found) < len(masks) else set()


def _is_field_of_view(folder: Path, value: str, files: list[File]) -> bool:
    if IGNORE_WORDS.search(value):
        return True
    seen = []
    for file in files[:: max(1, len(files) // FIELD_LOOKED_AT)][:FIELD_LOOKED_AT]:
        try:
            with open_image(folder / file.name) as image:
                grey = np.asarray(
                    image.convert("L").resize((FIELD_SIZE,) * 2, Image.Resampling.NEAREST)
                )
        except UNREADABLE:
            continue
        seen.append(grey > grey.max() // 2)
    if len(seen) < 2 or np.mean(seen) < FIELD_AREA:
        return False
    common = np.logical_and.reduce(seen).sum() / max(1, np.logical_or.reduce(seen).sum())
    return bool(common >= FIELD_LIKENESS)


def _in_alpha(files: Iterable[File]) -> Layout:
    """Images whose masks are their alpha channels."""
    levels = Levels(of_one_depth(list(files)))
    names = iter(field_names(len(levels.varying)))
    folders = [
        f"{{{next(names)}}}" if at in levels.varying else next(iter(found))
        for at, found in enumerate(levels.names)
    ]
    endings = {file.ending.lower() for file in files}
    ending = endings.pop() if len(endings) == 1 else ".*"
    pattern = "/".join([*folders, f"{{id}}{ending}"])
    return Layout(pattern, pattern, [file.name for file in files], [])
