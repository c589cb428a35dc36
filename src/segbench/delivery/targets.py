"""Where results of images go: paths that are told apart, and none of which is another's folder."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from segbench.datasets.patterns import nfc
from segbench.errors import InputError

ENDINGS = (".png", ".jpg")
"""Of what is written of an image."""


def targets_of(names: Sequence[str], videos: Sequence[bool]) -> list[str]:
    """Paths without ending for the results of files: their names, with the ending where need be.

    Args:
        names: of the files, relative to one folder.
        videos: whether each is a video, which has a folder of results for itself.

    Raises:
        InputError: if results of two files would be in one another's place even so.
    """
    bare = [os.path.splitext(name)[0] for name in names]
    kept: set[int] = set()
    while True:
        targets = [name if at in kept else bare[at] for at, name in enumerate(names)]
        # macOS and Windows take names that differ in case, or in how an accent is written, for one.
        found = {at for at, _ in _clashes([nfc(one).lower() for one in targets], videos)} - kept
        if not found:
            break
        kept |= found
    for one, other in _clashes(targets, videos):
        raise InputError(
            f"{names[one]} and {names[other]}: their results would have the same place; "
            "rename one of them, or predict them into folders of their own"
        )
    return targets


def _clashes(targets: Sequence[str], videos: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Positions of a target that cannot stay, and of one that is in its way."""
    files, folders = _grouped(targets, videos)
    for path, owners in files.items():
        for one, other in pairwise(owners):
            yield from ((one, other), (other, one))
        if path in folders:
            yield owners[0], folders[path][0]
    for at, target in enumerate(targets):
        if videos[at]:
            # One other is enough to tell; the lists of folders are long.
            yield from ((at, other) for other in folders[target][:2] if other != at)


def _grouped(
    targets: Sequence[str], videos: Sequence[bool]
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Who writes each file, and who writes into each folder, by positions."""
    files: dict[str, list[int]] = defaultdict(list)
    folders: dict[str, list[int]] = defaultdict(list)
    for at, target in enumerate(targets):
        if videos[at]:
            folders[target].append(at)
        else:
            for ending in ENDINGS:
                files[target + ending].append(at)
        for folder in PurePosixPath(target).parents[:-1]:
            folders[str(folder)].append(at)
    return files, folders
