"""Patterns by which a family of images and one of masks go together."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from segbench.onboarding.names import IGNORE_WORDS, SECOND_CHOICE, File, affixes, are_class_names

# Share of the names that a beginning or an end must be common to, and names that are looked at.
COMMON, MOST_NAMES = 0.15, 400
# Of so few names, one alone would have such a share.
FEW_NAMES = 6
SEPARATORS = "_-. "
MOST_CLASSES = 40


@dataclass(frozen=True)
class Match:
    """Patterns of two families, and what fits them."""

    images: str
    masks: str
    affix: tuple[str, str]
    matched: list[File]
    alone: list[File]
    unused: int
    class_names: tuple[str, ...]


def match_families(
    images: list[File], masks: list[File], affix: tuple[str, str] | None = None
) -> Match | None:
    """Patterns by which two families go together, if there are any.

    Args:
        images, masks: of one family each.
        affix: what stands before and behind the id in names of images; None: to be found.
    """
    images, masks = of_one_depth(images), of_one_depth(masks)
    levels, other = Levels(images), Levels(masks)
    matched_levels: dict[int, int] = {}
    for at, values in levels.varying.items():
        for there, others in other.varying.items():
            alike = len(values & others)
            if there not in matched_levels.values() and 2 * alike >= min(len(values), len(others)):
                matched_levels[at] = there
                break
    joint = _Joint(images, masks, levels, other, matched_levels)
    ways = [joint.by_names(affix), joint.by_folder_of_masks(affix)]
    if affix is None:
        ways.append(joint.by_folder())
    return max(
        (way for way in ways if way), key=lambda way: (len(way.matched), -way.unused), default=None
    )


def of_one_depth(files: list[File]) -> list[File]:
    """Files as deep as most of them."""
    depth, _ = Counter(len(file.folders) for file in files).most_common(1)[0]
    return [file for file in files if len(file.folders) == depth]


class Levels:
    """The folders of a family: at some depths one, at others many."""

    def __init__(self, files: list[File]) -> None:
        self.names = [set(names) for names in zip(*(file.folders for file in files), strict=True)]
        self.varying = {at: names for at, names in enumerate(self.names) if len(names) > 1}


Key = tuple[str, ...]


class _Joint:
    """Two families with the folders that they have in common."""

    def __init__(
        self,
        images: list[File],
        masks: list[File],
        levels: Levels,
        other: Levels,
        matched_levels: dict[int, int],
    ) -> None:
        self.images, self.masks = images, masks
        self.levels, self.other, self.matched = levels, other, matched_levels
        both = any(file.split for file in images) and any(file.split for file in masks)
        self.by_split = both
        self.field_names = dict(zip(matched_levels, field_names(len(matched_levels)), strict=True))

    def by_names(self, affix: tuple[str, str] | None) -> Match | None:
        """An image and its mask have the same id in their names."""
        fixed = [affix] if affix else _common_affixes(self.images)
        best: tuple[tuple[int, ...], tuple[str, str], tuple[str, str]] | None = None
        keys_of_images = {one: self._keys(self.images, self._image_place, one) for one in fixed}
        for there in _common_affixes(self.masks):
            keys = self._keys(self.masks, self._mask_place, there).keys()
            second = bool(SECOND_CHOICE.search("".join(there)))
            for one, own in keys_of_images.items():
                length = len("".join((*one, *there)))
                goodness = (len(keys & own.keys()), -second, -length)
                if goodness[0] and (best is None or goodness > best[0]):
                    best = (goodness, one, there)
        if best is None:
            return None
        _, one, there = best
        if by_parts := self._by_parts(one):
            return by_parts
        keys_of_masks = self._keys(self.masks, self._mask_place, there)
        extra, names = self._extra_folders(keys_of_masks)
        masks = self._pattern(self.masks, self.other, self._mask_fields() | extra, there)
        return self._made(one, set(keys_of_masks), masks, names)

    def _by_parts(self, one: tuple[str, str]) -> Match | None:
        """Names of masks are the id and a word or number: `01_crack.png`, `01_2.png`."""
        own = self._keys(self.images, self._image_place, one)
        parts: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        keys: defaultdict[Key, int] = defaultdict(int)
        for file in self.masks:
            for separator in "_- ":
                head, found, tail = file.stem.rpartition(separator)
                key = (*self._mask_place(file), head)
                if found and key in own:
                    parts["", separator].add(tail)
                    keys[key] += 1
                    break
        covered = sum(keys.values())
        if covered < 0.9 * len(self.masks) or covered < 1.2 * len(keys) or len(parts) != 1:
            return None
        (_, separator), tails = next(iter(parts.items()))
        if any(map(SECOND_CHOICE.search, tails)) or any(map(IGNORE_WORDS.search, tails)):
            return None
        classes = are_class_names(tails, min(MOST_CLASSES, len(keys)))
        kind = "class" if classes else "part"
        masks = self._pattern(
            self.masks, self.other, self._mask_fields(), ("", f"{separator}{{{kind}}}")
        )
        return self._made(one, set(keys), masks, tuple(sorted(tails)) if classes else ())

    def by_folder_of_masks(self, affix: tuple[str, str] | None) -> Match | None:
        """The folder of a mask is called as its image: `masks/01/3.png` of `images/01.png`."""
        one = affix or ("", "")
        own = self._keys(self.images, self._image_place, one)
        stems = {key[-1] for key in own}
        for at, names in self.other.varying.items():
            if at in self.matched.values() or 2 * len(names & stems) < len(names):
                continue
            keys: defaultdict[Key, list[File]] = defaultdict(list)
            for file in self.masks:
                keys[(*self._mask_place(file), file.folders[at])].append(file)
            fields = self._mask_fields() | {at: "{id}"}
            return self._of_parts(one, keys, fields)
        return None

    def by_folder(self) -> Match | None:
        """The folder of an image is its id: `01/images/x.png`, `01/masks/*.png`."""
        if not self.matched:
            return None
        last = max(self.matched)
        counts = Counter(self._image_place(file) for file in self.images)
        if max(counts.values()) > 1:
            return None
        self.field_names[last] = "id"
        keys: defaultdict[Key, list[File]] = defaultdict(list)
        for file in self.masks:
            keys[(*self._mask_place(file), "")].append(file)
        return self._of_parts(None, keys, self._mask_fields())

    def _of_parts(
        self, one: tuple[str, str] | None, keys: dict[Key, list[File]], fields: dict[int, str]
    ) -> Match:
        """Masks that are called as they like, in a folder of their image."""
        stems = Counter(file.stem for files in keys.values() for file in files)
        several = any(len(files) > 1 for files in keys.values())
        classes = are_class_names(set(stems), min(MOST_CLASSES, max(1, len(keys))))
        if not several:
            stem = next(iter(stems)) if len(stems) == 1 else "*"
        else:
            stem = "{class}" if classes else "{part}"
        masks = self._pattern(self.masks, self.other, fields, (stem, ""), id="")
        names = tuple(sorted(stems)) if several and classes else ()
        return self._made(one, set(keys), masks, names)

    def _made(
        self,
        one: tuple[str, str] | None,
        keys: set[Key],
        masks: str,
        class_names: tuple[str, ...],
    ) -> Match:
        fields = {at: f"{{{name}}}" for at, name in self.field_names.items()}
        if one is None:
            stems = {file.stem for file in self.images}
            stem = stems.pop() if len(stems) == 1 else "*"
            pattern = self._pattern(self.images, self.levels, fields, (stem, ""), id="")
            own = {(*self._image_place(file), ""): [file] for file in self.images}
        else:
            pattern = self._pattern(self.images, self.levels, fields, one)
            own = self._keys(self.images, self._image_place, one)
        matched = [file for key, files in own.items() if key in keys for file in files]
        alone = [file for key, files in own.items() if key not in keys for file in files]
        left = len(keys - own.keys())
        return Match(pattern, masks, one or ("", ""), matched, alone, left, class_names)

    def _image_place(self, file: File) -> Key:
        split = (file.split,) if self.by_split else ()
        return (*split, *(file.folders[at] for at in self.matched))

    def _mask_place(self, file: File) -> Key:
        split = (file.split,) if self.by_split else ()
        return (*split, *(file.folders[at] for at in self.matched.values()))

    def _mask_fields(self) -> dict[int, str]:
        return {self.matched[at]: f"{{{name}}}" for at, name in self.field_names.items()}

    def _keys(
        self, files: list[File], place: Callable[[File], Key], affix: tuple[str, str]
    ) -> dict[Key, list[File]]:
        before, behind = affix
        least = len(before) + len(behind)
        keys: dict[Key, list[File]] = {}
        for file in files:
            stem = file.stem
            if len(stem) > least and stem.startswith(before) and stem.endswith(behind):
                key = (*place(file), stem[len(before) : len(stem) - len(behind)])
                keys.setdefault(key, []).append(file)
        return keys

    def _extra_folders(self, keys: dict[Key, list[File]]) -> tuple[dict[int, str], tuple[str, ...]]:
        """What folders of masks stand for that those of images do not have."""
        extra: dict[int, str] = {}
        class_names: tuple[str, ...] = ()
        several = any(len(files) > 1 for files in keys.values())
        for at, names in self.other.varying.items():
            if at in self.matched.values() or any("{split}" in name for name in names):
                continue
            kind = "*"
            if "{class}" not in extra.values() and are_class_names(names, MOST_CLASSES):
                kind, class_names = "{class}", tuple(sorted(names))
            elif several and "{part}" not in extra.values():
                kind = "{part}"
            extra[at] = kind
        return extra, class_names

    def _pattern(
        self,
        files: list[File],
        levels: Levels,
        fields: dict[int, str],
        affix: tuple[str, str],
        id: str = "{id}",
    ) -> str:
        folders = [
            fields.get(at) or (next(iter(names)) if len(names) == 1 else "*")
            for at, names in enumerate(levels.names)
        ]
        if not self.by_split:
            folders = [folder.replace("{split}", "*") for folder in folders]
        endings = Counter(file.ending.lower() for file in files)
        ending = next(iter(endings)) if len(endings) == 1 else ".*"
        return "/".join([*folders, f"{affix[0]}{id}{affix[1]}{ending}"])


def field_names(count: int) -> list[str]:
    return ["folder", "subfolder", *("deeper" + "x" * at for at in range(count))][:count]


def _common_affixes(files: list[File]) -> list[tuple[str, str]]:
    """What stands before and behind the ids in names, as far as many names have it in common."""
    stems = [file.stem for file in files[:: -(-len(files) // MOST_NAMES)]]
    counts = Counter(pair for stem in stems for pair in affixes(stem))
    least = max(COMMON * len(stems), 1 if len(stems) > FEW_NAMES else 2)
    common = [pair for pair, count in counts.items() if count >= least]
    return [("", ""), *(pair for pair in common if pair != ("", "") and _is_whole(pair, counts))]


def _is_whole(pair: tuple[str, str], counts: Counter[tuple[str, str]]) -> bool:
    """Does what separates it from the id belong to it, where all names have it?"""
    before, behind = pair
    wider = [(before + one, behind) for one in SEPARATORS if before[-1:].isalnum()]
    wider += [(before, one + behind) for one in SEPARATORS if behind[:1].isalnum()]
    return all(counts[other] < counts[pair] for other in wider)
