"""Records of others, looked at before anything of them is sent: a bad one is refused whole."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from segbench.errors import InputError
from segbench.tracking.bounds import LARGEST_FILES, check_end, check_metrics
from segbench.tracking.records import Run, read_run
from segbench.untrusted.onnx_file import checked_onnx
from segbench.untrusted.pages import check_page
from segbench.untrusted.pictures import FORMATS, check_picture
from segbench.untrusted.program import check_program

IN_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""Where DVC keeps what it links to, if it is told to link."""
PART = re.compile(r"(?!\.)(?!.*(\.\.|%[0-9a-fA-F]{2}))[^/\\\x00-\x1f\x7f]{1,200}")
"""A name in the path of an artifact."""
NETWORK = "model.onnx"
"""The same network, beside the exported program."""
PAGE = "report/comparison.html"
TEXTS = {".csv", ".json", ".md", ".txt"}
LARGEST_TEXT = 32 << 20
MOST_ARTIFACTS, DEEPEST = 5_000, 4


def sound_records(folders: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Those records that may be replayed, and a line about each other one."""
    sound, refused = [], []
    for folder in folders:
        try:
            check_record(folder)
        except InputError as problem:
            refused.append(str(problem))
        else:
            sound.append(folder)
    return sound, refused


def check_record(folder: Path) -> Run:
    """Read a record's run.json, and look at all else that belongs to it.

    Nothing of it runs, and nothing outside the folder and its model is opened.

    Raises:
        InputError: for a record with a part that segbench does not write, or a larger one.
    """
    part = ""
    try:
        for part, largest in LARGEST_FILES.items():
            path = folder / part
            if part == "end.json" and not path.exists():
                continue
            _check_place(path, folder)
            if (size := path.stat().st_size) > largest:
                raise ValueError(f"it has {size} bytes, the limit is {largest}")
        part = "run.json"
        run = read_run(folder)
        part = "metrics.jsonl"
        check_metrics(folder / part)
        part = "end.json"
        finished = False
        if (folder / part).exists():
            end = json.loads((folder / part).read_text())
            check_end(end)
            finished = end["status"] == "FINISHED"
        part = "artifacts"
        for path in _artifacts(folder / part):
            part = path.relative_to(folder).as_posix()
            _check_artifact(path, path.relative_to(folder / "artifacts"))
        if run.model is not None and finished:
            part = f"its model {run.model.path}"
            path = folder / run.model.path
            if path.suffix != ".pt2":
                raise ValueError("it does not end with .pt2")
            _check_place(path, folder.parent)
            check_program(path.read_bytes())
            network = path.with_name(NETWORK)
            if network.exists() or network.is_symlink():
                part = NETWORK
                _check_place(network, folder.parent)
                checked_onnx(network)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as problem:
        reason = " ".join(str(problem).split())[:400]
        missing = isinstance(problem, FileNotFoundError)
        raise InputError(
            f"{_shown(folder)}: not replayed, nothing of it was sent: "
            f"{'' if reason.startswith('run.json') else f'{_shown(part)}: '}"
            + ("missing; 'dvc pull' may bring it" if missing else f"{reason}; ask whoever made it")
        ) from None
    return run


def _check_place(path: Path, inside: Path) -> None:
    """Raise ValueError for a file that lies elsewhere, or is none."""
    place = path.resolve(strict=True)
    if not place.is_relative_to(inside.resolve()) and not IN_CACHE.search(place.as_posix()):
        raise ValueError("it lies outside the record")
    if not place.is_file():
        raise ValueError("it is no file")


def _artifacts(root: Path) -> list[Path]:
    """Files in a folder, however deep; ValueError for too many, and folders that are links."""
    found: list[Path] = []
    waiting = [root] if root.is_dir() else []
    while waiting:
        folder = waiting.pop()
        if folder.is_symlink():
            raise ValueError(f"{_shown(folder.name)} is a link to another folder")
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=True)
                (waiting if is_folder else found).append(Path(entry.path))
        if len(found) + len(waiting) > MOST_ARTIFACTS:
            raise ValueError(f"more than {MOST_ARTIFACTS} files")
    return sorted(found)


def _check_artifact(path: Path, name: Path) -> None:
    """Raise ValueError unless an artifact is of a kind that records hold.

    Args:
        path: of the file.
        name: below the folder of artifacts.
    """
    if len(name.parts) > DEEPEST or not all(PART.fullmatch(part) for part in name.parts):
        raise ValueError("no name of an artifact")
    _check_place(path, path.parents[len(name.parts) - 1])
    ending = name.suffix.lower()
    if name.as_posix() == PAGE:
        check_page(path.read_bytes())
    elif ending in FORMATS and not (name.parts[0] == "images" and ending != ".png"):
        check_picture(path)
    elif ending in TEXTS:
        if path.stat().st_size > LARGEST_TEXT:
            raise ValueError(f"it has more than {LARGEST_TEXT} bytes")
        path.read_text("utf-8")
    else:
        raise ValueError("records hold no such kind of file")


def _shown(path: Path | str) -> str:
    text = str(path)
    return text if text.isprintable() else ascii(text)
