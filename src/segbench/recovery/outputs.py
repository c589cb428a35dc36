"""Outputs of stages that take long: missing or damaged ones are restored."""

import hashlib
from pathlib import Path

from segbench.recovery.lock_file import git_file
from segbench.recovery.notes import Notes
from segbench.recovery.objects import Out, files_of, md5_of, object_of, place
from segbench.recovery.process_locks import CLOCK_S


def restore(root: Path, objects: Path, outs: list[Out], since: float, notes: Notes) -> None:
    """Bring back what is missing or damaged of outputs, from the cache or from git.

    Args:
        root: of the workspace.
        objects: folder of DVC's cache.
        outs: to restore.
        since: when everything was whole; files that have not changed since are not read.
        notes: say what is restored.
    """
    restored = []
    for out in outs:
        for path, md5 in files_of(objects, out):
            here = root / path
            if here.is_file() and (here.stat().st_ctime <= since - CLOCK_S or md5_of(here) == md5):
                continue
            stored = object_of(objects, md5)
            content = stored.read_bytes() if stored.is_file() else git_file(root, path)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                restored.append(path)
                if not notes.dry:
                    place(content, here, 0o644)
    if restored:
        few = f"{restored[0]}{f' and {len(restored) - 1} more' if len(restored) > 1 else ''}"
        notes.add(f"{few}, missing or damaged, restored from DVC's cache or git")
