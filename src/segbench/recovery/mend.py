"""A workspace is mended before DVC runs in it."""

import time
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from segbench.files import atomic_file
from segbench.recovery.lock_file import keep_lock, mend_lock, state_folder
from segbench.recovery.notes import Notes
from segbench.recovery.objects import (
    Out,
    drop_damaged,
    fetch,
    keep_uncached,
    object_folder,
    outs_of,
    put_back,
)
from segbench.recovery.outputs import restore
from segbench.recovery.process_locks import alone, mend_rwlock
from segbench.recovery.run_cache import keep_runs
from segbench.recovery.trainings import forget_finished

REPEATED = ("train@", "evaluate@", "evaluate_external@")
"""Stages whose outputs are restored, since they take long to make."""
PER_SET = ("download_external@", "audit_external@", "augment_external@")
"""Stages that are repeated for each external set."""


def mend(root: Path, runs: Iterable[str], force: bool = False, dry: bool = False) -> bool:
    """Mend a workspace: dvc.lock, DVC's lock, damaged objects of its cache, damaged outputs.

    Each thing that is mended is told in a line on stderr. Nothing is mended while another DVC holds
    its lock, which would be waited for too.

    Args:
        root: of the workspace.
        runs: what follows the @ of stages that params.yaml asks for, see `Comparison.items`.
        force: stages run in any case, so that their outputs are not brought back.
        dry: only say what would be mended.

    Returns:
        Whether DVC can read its locks, which it cannot where they are torn and `dry`.
    """
    if not (root / ".dvc").is_dir():
        return True
    notes = Notes(dry)
    began, since, objects = time.time(), _checked_until(root), object_folder(root)
    wanted = {f"{name}{run}" for name in (*REPEATED, *PER_SET) for run in runs}
    busy, readable, missing = True, True, list[str]()
    with alone(root) as free:
        if free:
            busy, rwlock = mend_rwlock(root / ".dvc/tmp/rwlock", notes)
            readable = mend_lock(root, notes) and rwlock
            lost = drop_damaged(objects, since, notes)
            if lost and not dry:
                missing = put_back(root, objects, outs_of(root, wanted), lost)
    if missing:
        few = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        notes.add(f"{few}: {fetch(root, missing)}")
    with alone(root) as free:
        if free and not busy:
            long = _long(root, wanted)
            if not force:
                restore(root, objects, long, since, notes)
            if not dry:
                keep_uncached(root, objects, long)
                _trust(root, began)
    return readable


def finish(root: Path, runs: Iterable[str]) -> None:
    """After a run of DVC that went well: what it wrote is whole, since DVC has just read it.

    Args:
        root: of the workspace.
        runs: as for `mend`.
    """
    if not (root / ".dvc").is_dir():
        return
    with FileLock(state_folder(root) / "finish.lock"):  # of two that end at once
        keep_lock(root)
        forget_finished(root)
        keep_runs(root)
        wanted = {f"{name}{run}" for name in (*REPEATED, *PER_SET) for run in runs}
        keep_uncached(root, object_folder(root), _long(root, wanted))
        _trust(root, time.time())


def _long(root: Path, wanted: set[str]) -> list[Out]:
    return [out for out in outs_of(root, wanted) if out.stage.startswith(REPEATED)]


def _checked_until(root: Path) -> float:
    """Until when everything is known to be whole; 0 if unknown, or if the clock was set back."""
    try:
        until = float((state_folder(root) / "checked").read_text())
    except (OSError, ValueError):
        return 0.0
    return until if until <= time.time() else 0.0


def _trust(root: Path, until: float) -> None:
    with atomic_file(state_folder(root) / "checked") as partial:
        partial.write_text(f"{until}\n")
