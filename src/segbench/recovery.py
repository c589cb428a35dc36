"""What a kill, a full disk or a failing disk left behind, mended before DVC runs.

DVC writes dvc.lock and its own lock in place, so that both can be torn, and trusts what lies in its
cache. Each thing that is mended is told in a line on stderr.
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segbench.files import atomic_file

LOCK, HEAD = "dvc.lock", "schema: '2.0'\nstages:\n"
OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
REPEATED = ("train@", "evaluate@")
"""Stages whose outputs are restored, since they take long to make."""
CLOCK_S = 2.0
"""Files and processes may be dated differently by so much."""


def keep_lock(root: Path) -> None:
    """Keep a copy of dvc.lock, which is whole while a stage runs.

    Args:
        root: of the workspace.
    """
    try:
        content = (root / LOCK).read_bytes()
        kept = _state(root) / LOCK
        if (root / ".dvc").is_dir() and not (kept.exists() and kept.read_bytes() == content):
            with atomic_file(kept) as partial:
                partial.write_bytes(content)
    except OSError:
        pass  # a copy for bad days; the stage itself says what is wrong with the disk


def mend(root: Path, runs: Iterable[str], restore: bool = True) -> None:
    """Mend a workspace: dvc.lock, DVC's lock, damaged objects of its cache, damaged outputs.

    Nothing is mended while another DVC holds its lock, which would be waited for too.

    Args:
        root: of the workspace.
        runs: `<alias>-<fold>-<seed>` of the runs that params.yaml asks for.
        restore: bring back what trainings and evaluations made, where it is missing or damaged.
    """
    if not (root / ".dvc").is_dir():
        return
    began, since, cache = time.time(), _checked_until(root), _cache(root)
    wanted = {f"{name}{run}" for name in REPEATED for run in runs}
    busy, missing = True, list[str]()
    with _alone(root) as alone:
        if alone:
            busy = _mend_rwlock(root / ".dvc/tmp/rwlock")
            _mend_lock(root)
            if lost := _drop_damaged(cache, since):
                missing = _put_back(root, cache, _outs(root, wanted), lost)
    if missing:
        few = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        _say(f"{few}: {_fetch(root, missing)}")
    with _alone(root) as alone:
        if alone and not busy:
            long = [out for out in _outs(root, wanted) if out.stage.startswith(REPEATED)]
            if restore:
                _restore(root, cache, long, since)
            _keep_uncached(root, cache, long)
            _trust(root, began)


def finish(root: Path, runs: Iterable[str]) -> None:
    """After a run of DVC that went well: what it wrote is whole, since DVC has just read it.

    Args:
        root: of the workspace.
        runs: as for `mend`.
    """
    if (root / ".dvc").is_dir():
        keep_lock(root)
        wanted = {f"{name}{run}" for name in REPEATED for run in runs}
        long = [out for out in _outs(root, wanted) if out.stage.startswith(REPEATED)]
        _keep_uncached(root, _cache(root), long)
        _trust(root, time.time())


def _trust(root: Path, until: float) -> None:
    with atomic_file(_state(root) / "checked") as partial:
        partial.write_text(f"{until}\n")


def _state(root: Path) -> Path:
    return root / ".dvc/tmp/segbench"


def _say(text: str) -> None:
    print(f"mended: {text}", file=sys.stderr)


@contextmanager
def _alone(root: Path) -> Iterator[bool]:
    """Hold the lock of DVC in this workspace; False if another process holds it."""
    path = root / ".dvc/tmp/lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _checked_until(root: Path) -> float:
    """Until when everything is known to be whole; 0 if unknown, or if the clock was set back."""
    try:
        until = float((_state(root) / "checked").read_text())
    except (OSError, ValueError):
        return 0.0
    return until if until <= time.time() else 0.0


def _mend_rwlock(path: Path) -> bool:
    """Take entries of processes that are gone out of DVC's lock; whether any are left."""
    try:
        written, text = path.stat().st_mtime, path.read_text()
    except FileNotFoundError:
        return False
    try:
        tree = json.loads(text)
        write: dict[str, Any] = tree.get("write", {})
        read: dict[str, list[Any]] = tree.get("read", {})
        holders = [*write.values(), *(info for infos in read.values() for info in infos)]
        pids = {(int(info["pid"]), str(info["cmd"])) for info in holders}
    except (ValueError, KeyError, TypeError, AttributeError):
        path.unlink()
        _say(f"{path} was torn, and is removed")
        return False
    gone = {pid for pid, command in pids if not _runs(pid, command, written)}
    if gone:
        left = {
            "write": {name: info for name, info in write.items() if info["pid"] not in gone},
            "read": {
                name: infos
                for name, all in read.items()
                if (infos := [info for info in all if info["pid"] not in gone])
            },
        }
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(left))
        _say(f"{path} named processes that are gone ({', '.join(map(str, sorted(gone)))})")
    return len(gone) < len({pid for pid, _ in pids})


def _runs(pid: int, command: str, written: float) -> bool:
    """Whether the process that wrote a lock at some time still runs: not another of its number."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.create_time() > written + CLOCK_S:
            return False
        arguments = command.partition(" ")[2]
        return " ".join(process.cmdline()).endswith(arguments)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False


def _mend_lock(root: Path) -> None:
    """Make a torn dvc.lock of its whole stages, its copy, and git's."""
    path, kept = root / LOCK, _state(root) / LOCK
    if not path.exists():
        return
    text = path.read_bytes().decode(errors="replace")
    copy = kept.read_text() if kept.exists() else ""
    if text == copy or "<<<<<<< " in text:  # a conflict of git is for a person
        return
    found, known = _blocks(text), _blocks(copy)
    ours = list(known)
    lost = len(found) < len(known) and list(found) == ours[: len(found)]
    if _is_whole(text) and not (lost and text != _committed(root)):
        keep_lock(root)
        return
    committed = _blocks(_committed(root))
    # What was being written may lack its end.
    for name in [*found][-1:]:
        if name in known or name in committed:
            del found[name]
    whole = {name: block for name, block in found.items() if _is_stage(block)}
    stages = {**committed, **known, **whole}
    with atomic_file(path) as partial:
        body = "".join(f"  {name}:\n{block}" for name, block in stages.items())
        partial.write_text(f"{HEAD}{body}" if stages else "")
    if not stages:
        path.unlink()
    _say(f"{LOCK} was torn; {len(stages)} stages are known again")
    keep_lock(root)


def _blocks(text: str) -> dict[str, str]:
    """The lines of each stage of a dvc.lock, without its name."""
    return dict(re.findall(r"^  (\S.*):\n((?:    .*\n)*)", text, re.MULTILINE))


def _is_whole(text: str) -> bool:
    blocks = _blocks(text)
    return (
        text.startswith(HEAD)
        and len(HEAD) + sum(len(name) + 4 + len(block) for name, block in blocks.items())
        == len(text)
        and all(map(_is_stage, blocks.values()))
        and bool(blocks)
    )


def _is_stage(block: str) -> bool:
    """Whether the lines of a stage are all there."""
    try:
        stage = yaml.load(block, yaml.CBaseLoader)
        items = [*stage["deps"], *stage["outs"]]
        return bool(stage["cmd"]) and all(OBJECT.fullmatch(item["md5"]) for item in items)
    except (yaml.YAMLError, KeyError, TypeError):
        return False


def _committed(root: Path, name: str = LOCK) -> str:
    """A file of the last commit; empty if there is none."""
    return _git_file(root, name).decode(errors="replace")


def _git_file(root: Path, name: str) -> bytes:
    command = ["git", "show", f"HEAD:./{name}"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""


def _cache(root: Path) -> Path:
    """The folder of the objects in DVC's cache."""
    place = root / ".dvc/cache"
    for name in ("config", "config.local"):
        path = root / ".dvc" / name
        text = path.read_text() if path.exists() else ""
        if found := re.search(r"^\[cache\][^\[]*?^\s*dir\s*=\s*(.+?)\s*$", text, re.M | re.S):
            place = root / ".dvc" / found[1].strip("'\"")
    return place / "files/md5"


@dataclass(frozen=True)
class _Out:
    """An output in dvc.lock: its stage, its path, the md5 of its content."""

    stage: str
    path: str
    md5: str


def _outs(root: Path, runs: set[str]) -> list[_Out]:
    """Outputs of the stages in dvc.lock, but for those of runs that are not asked for."""
    path = root / LOCK
    try:
        stages = yaml.load(path.read_text(), yaml.CBaseLoader)["stages"] if path.exists() else {}
        return [
            _Out(name, out["path"], out["md5"])
            for name, stage in stages.items()
            if "@" not in name or name in runs
            for out in stage["outs"]
        ]
    except (yaml.YAMLError, KeyError, TypeError):
        return []  # DVC says what is wrong with it


def _object(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _drop_damaged(cache: Path, since: float) -> set[str]:
    """Remove objects whose content is not what their name says; their names.

    Those that were changed since some time are read.
    """
    changed = []
    for folder in os.scandir(cache) if cache.is_dir() else ():
        for entry in os.scandir(folder) if folder.is_dir() else ():
            named = OBJECT.fullmatch(folder.name + entry.name)
            if named and entry.is_file() and entry.stat().st_ctime > since - CLOCK_S:
                changed.append(Path(entry.path))
    lost = set()
    with ThreadPoolExecutor(2) as pool:
        for path, md5 in zip(changed, pool.map(_md5, changed), strict=True):
            name = path.parent.name + path.name
            if md5 != name.removesuffix(".dir"):
                path.unlink()
                lost.add(name)
    if lost:
        _say(f"damaged files are removed from DVC's cache ({cache}): {len(lost)}")
    return lost


def _put_back(root: Path, cache: Path, outs: list[_Out], lost: set[str]) -> list[str]:
    """Make lost objects anew from the outputs here; paths of those that cannot be."""
    missing = []
    for out in outs:
        if out.md5 in lost and out.md5.endswith(".dir"):
            listing = _listing_of(root / out.path)
            if hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir" == out.md5:
                _place(listing, _object(cache, out.md5), 0o444)
            else:
                missing.append(out.path)
        for path, md5 in _files(cache, out):
            here = root / path
            if md5 in lost and not _object(cache, md5).exists():
                if here.is_file() and _md5(here) == md5:
                    _place(here.read_bytes(), _object(cache, md5), 0o444)
                else:
                    missing.append(path)
    return missing


def _keep_uncached(root: Path, cache: Path, outs: list[_Out]) -> None:
    """Let the cache hold what only git is to hold too: it may not be committed yet."""
    for out in outs:
        here, kept = root / out.path, _object(cache, out.md5)
        if here.is_file() and not kept.exists() and _md5(here) == out.md5:
            _place(here.read_bytes(), kept, 0o444)


def _fetch(root: Path, paths: list[str]) -> str:
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
    entries = [{"md5": _md5(path), "relpath": name} for name, path in files]
    return json.dumps(entries, sort_keys=True).encode()


def _files(cache: Path, out: _Out) -> list[tuple[str, str]]:
    """The files of an output, path and md5; none for a folder whose listing is not in the cache."""
    if not out.md5.endswith(".dir"):
        return [(out.path, out.md5)]
    listing = _object(cache, out.md5)
    if not listing.exists():
        return []
    entries = json.loads(listing.read_bytes())
    return [(f"{out.path}/{entry['relpath']}", entry["md5"]) for entry in entries]


def _restore(root: Path, cache: Path, outs: list[_Out], since: float) -> None:
    """Bring back what is missing or damaged of outputs, from the cache or from git."""
    restored = []
    for out in outs:
        for path, md5 in _files(cache, out):
            here = root / path
            if here.is_file() and (here.stat().st_ctime <= since - CLOCK_S or _md5(here) == md5):
                continue
            stored = _object(cache, md5)
            content = stored.read_bytes() if stored.is_file() else _git_file(root, path)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                _place(content, here, 0o644)
                restored.append(path)
    if restored:
        few = f"{restored[0]}{f' and {len(restored) - 1} more' if len(restored) > 1 else ''}"
        _say(f"{few}, missing or damaged, restored from DVC's cache or git")


def _place(content: bytes, path: Path, mode: int) -> None:
    with atomic_file(path) as partial:
        partial.write_bytes(content)
    path.chmod(mode)
