"""How a dataset's files were read, as far as a person should know before believing a number."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from segbench.datasets.canonical import DatasetInfo

# Edges along the masks' outlines that are so much clearer in the other reading speak for it.
BETTER = 1.1
# Share of the pixels that may lie outside value_range before it looks wrong.
MOST_CLIPPED = 0.5
# Share of the foreground that may be ignored before the ignore masks look inverted.
MOST_IGNORED = 0.5
INVERT_IGNORE = "are its files black where pixels count? set ignore: {pattern: ..., invert: true}"
# Files that a message names.
NAMED = 5


def reading_notes(measures: pd.DataFrame, info: DatasetInfo) -> list[str]:
    """What was done to images on the way in, beside what `reading_doubts` says.

    Args:
        measures: measures.csv of a canonical folder.
        info: of the dataset.
    """
    notes = []
    for done, rule in (("turned", "turn"), ("ignored", "ignore")):
        count = int(measures["exif"].str.startswith(done).sum())
        if count:
            notes.append(f"{count} images have an EXIF orientation, {done} (dataset.exif: {rule})")
    clipped = measures["clipped"]
    if 0 < clipped.mean() <= MOST_CLIPPED:
        notes.append(_clipped(measures))
    see_through = measures["transparent"] > 0
    if see_through.any():
        notes.append(
            f"{int(see_through.sum())} of {len(measures)} images have transparent pixels (up to "
            f"{100 * measures['transparent'].max():.2g} %); the colours stored under them are "
            "used, whatever a viewer shows there"
        )
    if 0 < (lost := _ignored_foreground(measures, info)) <= MOST_IGNORED:
        notes.append(f"dataset.ignore leaves out {100 * lost:.2g} % of the foreground")
    missing = Counter(" ".join(measures["without_file"]).split())
    if missing:
        counts = ", ".join(
            f"{info.classes[int(at)]} {missing[at]}" for at in sorted(missing, key=int)
        )
        notes.append(
            f"images without a mask file of a class, taken for images without that class: {counts} "
            f"(of {len(measures)})"
        )
    return notes


def reading_doubts(measures: pd.DataFrame, info: DatasetInfo) -> list[str]:
    """What was probably read wrongly: masks that fit unturned images, a narrow value_range.

    Args:
        measures: measures.csv of a canonical folder.
        info: of the dataset.
    """
    doubts = []
    compared = measures["exif_other"][measures["exif_other"] > 0]
    if len(compared) and compared.median() > BETTER:
        rule = "ignore" if measures["exif"].str.startswith("turned").any() else "turn"
        doubts.append(
            f"{int((compared > 1).sum())} of {len(compared)} masks fit the edges of their images "
            f"better where EXIF is read the other way; look at some, then set dataset.exif: {rule}"
        )
    if measures["clipped"].mean() > MOST_CLIPPED:
        doubts.append(f"{_clipped(measures)}; is it too narrow?")
    if (lost := _ignored_foreground(measures, info)) > MOST_IGNORED:
        doubts.append(
            f"dataset.ignore leaves out {100 * lost:.0f} % of the foreground; {INVERT_IGNORE}"
        )
    contested = measures["contested"]
    if contested.any():
        worst = measures.iloc[int(contested.argmax())]
        doubts.append(
            f"{int(contested.sum())} pixels in {int((contested > 0).sum())} of {len(contested)} "
            f"images belong to several classes by their mask files (most in {worst['file']}: "
            f"{worst['contested']}); each counts as the last of these in dataset.classes"
        )
    return doubts


def _ignored_foreground(measures: pd.DataFrame, info: DatasetInfo) -> float:
    """Share of the foreground that lies in pixels that are ignored by a file."""
    lost = int(measures["ignored_foreground"].sum())
    pixels = np.array([counts.split() for counts in measures["class_pixels"]], np.int64)
    left = int(pixels[:, list(info.scheme.scored)].sum())
    return lost / (lost + left) if lost else 0.0


def some_of(names: Sequence[str]) -> str:
    """A few of many names of files, one of each folder and ending, and how many more there are."""
    kinds = {(name.rpartition("/")[0], name.rpartition(".")[2]): name for name in names[::-1]}
    some = list(kinds.values())[::-1][:NAMED]
    more = len(names) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")


def describe_unmatched(names: Sequence[str]) -> str:
    """Files that match no pattern, in words.

    Args:
        names: relative to the source.
    """
    return (
        f"{len(names)} file{'s' if len(names) > 1 else ''} below dataset.source "
        f"fit{'s' if len(names) == 1 else ''} neither dataset.images nor dataset.masks and "
        f"{'are' if len(names) > 1 else 'is'} not read: {some_of(names)}"
    )


def _clipped(measures: pd.DataFrame) -> str:
    clipped = measures["clipped"]
    worst = measures.iloc[int(clipped.argmax())]
    return (
        f"{100 * clipped.mean():.1f} % of the pixels lie outside dataset.value_range and become 0 "
        f"or 255 (in {int((clipped > 0).sum())} of {len(clipped)} images, most in "
        f"{worst['file']}: {100 * worst['clipped']:.1f} %)"
    )
