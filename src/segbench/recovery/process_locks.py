"""DVC's locks in a workspace, and the processes that hold them."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segbench.files import atomic_file
from segbench.recovery.notes import Notes

PROGRAMS = ("__main__.py", "dvc")
"""How the path of a program ends that takes such locks."""
CLOCK_S = 2.0
"""Files and processes may be dated differently by so much."""


@contextmanager
def alone(root: Path) -> Iterator[bool]:
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


def holders(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Processes that DVC's rwlock names, by id with their command: those that run, and the others.

    Args:
        path: of the rwlock, which may be missing.

    Raises:
        ValueError: if it is torn.
    """
    try:
        written, text = path.stat().st_mtime, path.read_text()
    except FileNotFoundError:
        return {}, {}
    try:
        tree = json.loads(text)
        write: dict[str, Any] = tree.get("write", {})
        read: dict[str, list[Any]] = tree.get("read", {})
        infos = [*write.values(), *(info for infos in read.values() for info in infos)]
        named = {(int(info["pid"]), str(info["cmd"])) for info in infos}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is torn") from None
    gone = {pid: command for pid, command in named if not _runs(pid, command, written)}
    return {pid: command for pid, command in named if pid not in gone}, gone


def mend_rwlock(path: Path, notes: Notes) -> tuple[bool, bool]:
    """Take entries of processes that are gone out of DVC's rwlock.

    Returns:
        Whether any others are left, and whether DVC can read it.
    """
    try:
        alive, gone = holders(path)
    except ValueError:
        notes.add(f"{path} was torn, and is removed")
        if not notes.dry:
            path.unlink()
        return False, not notes.dry
    if gone:
        notes.add(f"{path} named processes that are gone ({', '.join(map(str, sorted(gone)))})")
    if gone and not notes.dry:
        tree = json.loads(path.read_text())
        left = {
            "write": {
                name: info for name, info in tree.get("write", {}).items() if info["pid"] in alive
            },
            "read": {
                name: infos
                for name, all in tree.get("read", {}).items()
                if (infos := [info for info in all if info["pid"] in alive])
            },
        }
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(left))
    return bool(alive), True


def _runs(pid: int, command: str, written: float) -> bool:
    """Whether the process that wrote a lock at some time still runs: not another of its number."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.create_time() > written + CLOCK_S:
            return False
        # Only the last word: the program's path, which comes first, may have spaces, and is in
        # other words where it was `python -m`.
        last = command.rpartition(" ")[2]
        return last.endswith(PROGRAMS) or " ".join(process.cmdline()).endswith(last)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
