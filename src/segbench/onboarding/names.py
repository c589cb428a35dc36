"""The words and numbers that names of files are made of."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

SPLIT_WORDS = ("training", "train", "validation", "valid", "val", "dev", "testing", "test")
"""What folders of a published split are called."""
_SPLIT = re.compile(
    rf"(?i)(?<![a-z])({'|'.join(SPLIT_WORDS)})(?=$|[^a-z]|annot|mask|label|image|img|gt)"
)
MASK_WORDS = re.compile(
    r"(?i)mask|label|annot|truth|(?<![a-z])gt|seg|manual|target|trimap|lesion|outline|HO$"
)
IMAGE_WORDS = re.compile(r"(?i)image|img|photo|original|picture|jpeg|input|frame|rgb|raw|(^|_)x$")
IGNORE_WORDS = re.compile(r"(?i)(?<![a-z])(fov|roi|ignore|field.?of.?view)(?![a-z])")
SECOND_CHOICE = re.compile(
    r"(?i)colou?r|overlay|vis|preview|pred|heat|edge|bound|contour|instance|object|2nd|second|weight"
)
"""Pictures of masks, masks of another kind, and a second opinion."""
# What a last word of names must occur in to be one that they have in common.
LEAST_SHARE = 0.02
MOST_TOKENS = 10
"""Of a name, that are tried as its beginning or its end."""


@dataclass(frozen=True, slots=True)
class File:
    """The name of a file, in parts.

    Attributes:
        name: relative to the dataset's folder.
        folders: of it, from the top; in one of them `{split}` may stand for `split`.
        stem: without ending.
        ending: with its dot, as it is written.
        split: what the folder calls the split it belongs to; empty if nothing.
    """

    name: str
    folders: tuple[str, ...]
    stem: str
    ending: str
    split: str = ""


def read_name(name: str) -> File:
    """The parts of a name."""
    *folders, last = name.split("/")
    stem, _, ending = last.rpartition(".")
    return File(name, tuple(folders), stem, f".{ending}")


def with_splits(files: Sequence[File]) -> list[File]:
    """Files in whose folders `{split}` stands for the name of a split.

    At the first depth only where folders differ by it: one folder `train` is just a name.
    """
    for depth in range(max((len(file.folders) for file in files), default=0)):
        words: dict[str, tuple[str, str]] = {}
        for folder in {file.folders[depth] for file in files if len(file.folders) > depth}:
            if found := _SPLIT.search(folder):
                template = f"{folder[: found.start()]}{{split}}{folder[found.end() :]}"
                words[folder] = (template, found[0])
        if len({word for _, word in words.values()}) > 1:
            return [_with_split(file, depth, words) for file in files]
    return list(files)


def _with_split(file: File, depth: int, words: dict[str, tuple[str, str]]) -> File:
    if len(file.folders) <= depth or file.folders[depth] not in words:
        return file
    template, word = words[file.folders[depth]]
    folders = (*file.folders[:depth], template, *file.folders[depth + 1 :])
    return replace(file, folders=folders, split=word)


def chunks(stem: str) -> list[str]:
    """The parts of a name between `_`, `-`, `.` and spaces."""
    return [part for part in re.split(r"[_\-. ]+", stem) if part]


def tokens(text: str) -> list[str]:
    """Words, numbers and what separates them: `seq_12b` is seq, _, 12, b."""
    return re.findall(r"[A-Za-z]+|\d+|[^A-Za-z\d]", text)


def common_words(stems: Iterable[str], last: bool) -> set[str]:
    """Words that many names end with, or begin with."""
    found: Counter[str] = Counter()
    total = 0
    for stem in stems:
        total += 1
        parts = chunks(stem)
        word = parts[-1 if last else 0] if parts else ""
        found[word if last else word.rstrip("0123456789")] += 1
    least = max(2, LEAST_SHARE * total)
    return {word for word, count in found.items() if count >= least and re.search("[A-Za-z]", word)}


def affixes(stem: str) -> Iterator[tuple[str, str]]:
    """What may stand before and behind the id of a name, in all ways that keep tokens whole."""
    parts = tokens(stem)
    if len(parts) > MOST_TOKENS:
        yield ("", "")
        parts = [*parts[:3], "".join(parts[3:-5]), *parts[-5:]]
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    for start, end in combinations(ends, 2):
        yield stem[:start], stem[end:]


def are_class_names(names: set[str], most: int) -> bool:
    """Are these names of classes, not numbers or hashes of single objects?

    Args:
        names: of files or folders.
        most: how many classes there may be.
    """
    if not 1 <= len(names) <= most:
        return False
    if any(
        not re.search("[A-Za-z]{2}", name) or re.fullmatch("[0-9a-f-]{16,}", name) for name in names
    ):
        return False
    without_numbers = {re.sub(r"[\W\d_]+", "", name).lower() for name in names}
    numbered = len(without_numbers) < len(names)
    return not numbered or without_numbers <= {"class", "label", "cls"}
