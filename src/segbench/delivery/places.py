"""What a folder, a glob or the name of a file stands for: files, and folders that are closed."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.datasets.patterns import files_below
from segbench.errors import InputError

WILD = "*?["
ESCAPED = re.compile(r"\[([*?[])\]")
"""How a glob writes a sign that stands for itself."""


@dataclass(frozen=True)
class Place:
    """What was named.

    Attributes:
        where: absolute and without links, so that it is known again.
        root: the folder to which names are relative.
        files: in order.
        closed: folders that may not be listed.
        single: whether a file itself was named.
    """

    where: str
    root: Path
    files: Sequence[Path]
    closed: Sequence[Path]
    single: bool = False


def find(where: str) -> Place:
    """Find the files of a folder and those below, of a glob, or a single one; no hidden ones.

    Raises:
        InputError: if there is no such place.
    """
    path = Path(where).expanduser()
    # Not by methods of Path, which raise for what may not be read and for names that are too long.
    if os.path.isdir(path):
        closed: list[Path] = []
        files = sorted(files_below(path, closed.append))
        return Place(os.path.realpath(path), path, files, sorted(closed))
    if os.path.lexists(path):
        folder = os.path.realpath(path.parent)
        return Place(os.path.join(folder, path.name), path.parent, [path], [], single=True)
    root, rest = _split(path)
    if not rest:
        raise InputError(
            f"{where}: no such file or folder, or one that you may not read; name a folder, a glob "
            "or a video"
        )
    if ".." in rest:
        raise InputError(f"{where}: has .. behind a wildcard; write the glob without it")
    fixed = glob.escape(str(root))
    named = {Path(one) for one in glob.glob(os.path.join(fixed, *rest), recursive=True)}
    # A glob passes over folders that it may not list.
    passed = {
        Path(one)
        for end in range(len(rest))
        for one in glob.glob(os.path.join(fixed, *rest[:end], ""), recursive=True)
    }
    return Place(
        os.path.join(os.path.realpath(root), *rest),
        root,
        sorted(one for one in named if not os.path.isdir(one)),
        sorted(one for one in passed if not os.access(one, os.R_OK | os.X_OK)),
    )


def _split(path: Path) -> tuple[Path, Sequence[str]]:
    """The folder that a glob starts from, and its parts from the first with a wildcard on."""
    root = Path()
    for at, part in enumerate(path.parts):
        if not any(sign in ESCAPED.sub("", part) for sign in WILD):
            root /= ESCAPED.sub(r"\1", part)
        elif (root / part).is_dir():  # one that is really named so
            root /= part
        else:
            return root, path.parts[at:]
    return root, ()
