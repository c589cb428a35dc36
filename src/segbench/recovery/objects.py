"""Objects in DVC's cache: those whose content is not what their name says are made anew."""

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from segbench.files import atomic_file
from segbench.recovery.lock_file import LOCK, OBJECT
from segbench.recovery.notes import Notes
from segbench.recovery.process_locks import CLOCK_S


@dataclass(frozen=True)
class Out:
    """An output in dvc.lock: its stage, its path, the md5 of its content."""

    stage: str
    path: str
    md5: str


def outs_of(root: Path, runs: set[str]) -> list[Out]:
    """Outputs of the stages in dvc.lock, but for those of runs that are not asked for."""
    path = root / LOCK
    try:
        stages = yaml.load(path.read_text(), yaml.CBaseLoader)["stages"] if path.exists() else {}
        return [
            Out(name, out["path"], out["md5"])
            for name, stage in stages.items()
            if "@" not in name or name in runs
            for out in stage["outs"]
        ]
    except (yaml.YAMLError, KeyError, TypeError):
        return []  # DVC says what is wrong with it


def object_folder(root: Path) -> Path:
    """The folder of the objects in DVC's cache."""
    place = root / ".dvc/cache"
    for name in ("config", "config.local"):
        path = root / ".dvc" / name
        text = path.read_text(errors="replace") if path.exists() else ""
        if found := re.search(r"^\[cache\][^\[]*?^\s*dir\s*=\s*(.+?)\s*$", text, re.M | re.S):
            place = root / ".dvc" / found[1].strip("'\"")
    return place / "files/md5"


def object_of(objects: Path, md5: str) -> Path:
    """The path of an object."""
    return objects / md5[:2] / md5[2:]


def md5_of(path: Path) -> str:
    """Hex md5 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def drop_damaged(objects: Path, since: float, notes: Notes) -> set[str]:
    """Remove objects whose content is not what their name says; their names.

    Those that were changed since some time are read.
    """
    changed = []
    for folder in os.scandir(objects) if objects.is_dir() else ():
        for entry in os.scandir(folder) if folder.is_dir() else ():
            named = OBJECT.fullmatch(folder.name + entry.name)
            if named and entry.is_file() and entry.stat().st_ctime > since - CLOCK_S:
                changed.append(Path(entry.path))
    lost = set()
    with ThreadPoolExecutor(2) as pool:
        for path, md5 in zip(changed, pool.map(md5_of, changed), strict=True):
            name = path.parent.name + path.name
            if md5 != name.removesuffix(".dir"):
                lost.add(name)
                if not notes.dry:
                    path.unlink()
    if lost:
        notes.add(f"damaged files are removed from DVC's cache ({objects}): {len(lost)}")
    return lost


def put_back(root: Path, objects: Path, outs: list[Out], lost: set[str]) -> list[str]:
    """Make lost objects anew from the outputs here; paths of those that cannot be."""
    missing = []
    for out in outs:
        if out.md5 in lost and out.md5.endswith(".dir"):
            listing = _listing_of(root / out.path)
            if hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir" == out.md5:
                place(listing, object_of(objects, out.md5), 0o444)
            else:
                missing.append(out.path)
        for path, md5 in files_of(objects, out):
            here = root / path
            if md5 in lost and not object_of(objects, md5).exists():
                if here.is_file() and md5_of(here) == md5:
                    place(here.read_bytes(), object_of(objects, md5), 0o444)
                else:
                    missing.append(path)
    return missing


def keep_uncached(root: Path, objects: Path, outs: list[Out]) -> None:
    """Let the cache hold what only git is to hold too: it may not be committed yet."""
    for out in outs:
        here, kept = root / out.path, object_of(objects, out.md5)
        if here.is_file() and not kept.exists() and md5_of(here) == out.md5:
            place(here.read_bytes(), kept, 0o444)


def fetch(root: Path, paths: list[str]) -> str:
    """Fetch outputs from the remote, if there is one; what came of it."""
    dvc = [sys.executable, "-m", "dvc"]
    remote = subprocess.run(
        [*dvc, "config", "core.remote"], cwd=root, capture_output=True, text=True, check=False
    )
    if remote.returncode == 0 and remote.stdout.strip():
        done = subprocess.run(
            [*dvc, "fetch", "--quiet", *paths], cwd=root, capture_output=True, check=False
        )
        if done.returncode == 0:
            return "fetched from the remote"
    return "made anew where a stage needs it"


def _listing_of(folder: Path) -> bytes:
    """What DVC's object of a folder holds."""
    files = sorted(
        (path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file()
    )
    entries = [{"md5": md5_of(path), "relpath": name} for name, path in files]
    return json.dumps(entries, sort_keys=True).encode()


def files_of(objects: Path, out: Out) -> list[tuple[str, str]]:
    """The files of an output, path and md5; none for a folder whose listing is not in the cache."""
    if not out.md5.endswith(".dir"):
        return [(out.path, out.md5)]
    listing = object_of(objects, out.md5)
    if not listing.exists():
        return []
    entries = json.loads(listing.read_bytes())
    return [(f"{out.path}/{entry['relpath']}", entry["md5"]) for entry in entries]


def place(content: bytes, path: Path, mode: int) -> None:
    """Write a file at once, with these permissions."""
    with atomic_file(path) as partial:
        partial.write_bytes(content)
    path.chmod(mode)
