"""Which files are images and which are masks: by pixels, told apart by a feature of the names."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from segbench.onboarding.looks import MASK_FROM, Look, look_at
from segbench.onboarding.names import MASK_WORDS, File, chunks, common_words

# Files that are opened to tell images from masks; of each kind of name at most so many.
MOST_LOOKED_AT, MOST_OF_A_KIND = 96, 6
# Folders of one level that are told apart by name; more are numbers of patients or the like.
MOST_FOLDERS = 12
# What a feature of the names must tell right, by files, and how many values it may have.
LEAST_PURITY, MOST_FAMILIES = 0.9, 48
# Difference of the likeness to masks that tells two kinds apart although both are above or below
# what masks mostly have.
LEAST_GAP = 0.25

Families = dict[str, list[File]]
"""Files by a value of the feature that tells images from masks."""
Feature = Callable[[File], str]


def look_at_some(folder: Path, files: Sequence[File]) -> dict[str, Look]:
    """Looks at files of every kind of name."""
    wide = {
        depth
        for depth in range(max(len(file.folders) for file in files))
        if len({file.folders[depth : depth + 1] for file in files}) > MOST_FOLDERS
    }
    of_names = _words_of(files)
    stems = Counter(file.stem for file in files)
    few_stems = len(stems) <= MOST_FOLDERS
    kinds: defaultdict[tuple[object, ...], list[File]] = defaultdict(list)
    for file in files:
        places = tuple("" if depth in wide else name for depth, name in enumerate(file.folders))
        stem = file.stem if few_stems else ""
        kinds[(*places, of_names(file), stem, file.ending.lower())].append(file)
    each = max(1, min(MOST_OF_A_KIND, MOST_LOOKED_AT // len(kinds)))
    looks = {}
    for some in sorted(kinds.values(), key=len, reverse=True)[:MOST_LOOKED_AT]:
        for at in np.unique(np.linspace(0, len(some) - 1, each).astype(int)):
            if look := look_at(folder / some[at].name):
                looks[some[at].name] = look
    return looks


def _words_of(files: Sequence[File]) -> Callable[[File], tuple[str, str]]:
    """What gives the first and the last word of a name, where these are common."""
    first = common_words((file.stem for file in files), last=False)
    last = common_words((file.stem for file in files), last=True)

    def words(file: File) -> tuple[str, str]:
        parts = chunks(file.stem) or [""]
        begin = parts[0].rstrip("0123456789")
        return begin if begin in first else "", parts[-1] if parts[-1] in last else ""

    return words


def find_roles(files: Sequence[File], looks: dict[str, Look]) -> tuple[Families, Families] | None:
    """Families of images and of masks, told apart by the feature of names that does it best."""
    seen = [file for file in files if file.name in looks]
    best: tuple[tuple[float, int, int], Feature, set[str]] | None = None
    for rank, feature in _features(files):
        by_value: defaultdict[str, list[float]] = defaultdict(list)
        for file in seen:
            by_value[feature(file)].append(looks[file.name].likeness)
        sizes = Counter(map(feature, files))
        masks = _mask_values(by_value)
        if not masks or len(masks) == len(by_value) or len(sizes) > MOST_FAMILIES:
            continue
        border = _border(by_value, masks)
        right = sum(
            sizes[value] * sum((one >= border) == (value in masks) for one in found) / len(found)
            for value, found in by_value.items()
        )
        purity = round(right / sum(sizes[value] for value in by_value), 2)
        goodness = (purity, -rank, -len(by_value))
        if purity >= LEAST_PURITY and (best is None or goodness > best[0]):
            best = (goodness, feature, masks)
    if best is None:
        return None
    _, feature, masks = best
    families: tuple[Families, Families] = ({}, {})
    for file in files:
        value = feature(file)
        families[value in masks].setdefault(value, []).append(file)
    return families


def _features(files: Sequence[File]) -> Iterator[tuple[int, Feature]]:
    """What may tell images from masks, with a rank: folders do it best, endings worst."""
    words = _words_of(files)
    for depth in range(max(len(file.folders) for file in files)):
        yield 0, lambda file, depth=depth: "".join(file.folders[depth : depth + 1])  # type: ignore[misc]
    yield 1, lambda file: words(file)[1]
    yield 1, lambda file: words(file)[0]
    yield 1, lambda file: file.stem
    yield 2, lambda file: file.ending.lower()


def _mask_values(by_value: dict[str, list[float]]) -> set[str]:
    """Values of a feature that stand for masks."""
    means = {value: float(np.mean(found)) for value, found in by_value.items()}
    masks = {value for value, mean in means.items() if mean >= MASK_FROM}
    if masks and len(masks) < len(means):
        return masks
    # All are even, as drawings are, or none, as masks that were saved as JPEG: the gap tells.
    ordered = sorted(means, key=means.__getitem__)
    if len(ordered) < 2:
        return set()
    gaps = [means[after] - means[before] for before, after in pairwise(ordered)]
    widest = int(np.argmax(gaps))
    if gaps[widest] >= LEAST_GAP:
        return set(ordered[widest + 1 :])
    named = {value for value in means if MASK_WORDS.search(value)}
    return named if masks else set()


def _border(by_value: dict[str, list[float]], masks: set[str]) -> float:
    """The likeness to masks that tells the values apart; -inf where only names do."""
    low = max(float(np.mean(found)) for value, found in by_value.items() if value not in masks)
    high = min(float(np.mean(found)) for value, found in by_value.items() if value in masks)
    if high <= low:
        return float("-inf")
    return MASK_FROM if low < MASK_FROM <= high else (low + high) / 2
