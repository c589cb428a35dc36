"""Checkpoints of trainings that have ended: they are kept until DVC knows of it."""

import shutil
from pathlib import Path

from segbench.recovery.lock_file import LOCK

MARKS = "data/checkpoints/*/*/finished"
"""What `training.checkpoints` writes when a training ends: the md5 of its run file, and where else
its checkpoints are kept."""


def forget_finished(root: Path) -> None:
    """Delete the checkpoints of trainings that have ended and stand in dvc.lock, wherever kept.

    A training that was killed in between runs again, but trains no epoch.

    Args:
        root: of the workspace.
    """
    marks = list(root.glob(MARKS))
    try:
        known = (root / LOCK).read_text(errors="replace") if marks else ""
        told = {mark: (*mark.read_text().splitlines(), "", "")[:2] for mark in marks}
    except OSError:
        return  # another stage deletes them, or the disk fails, which the stage itself says
    for mark, (md5, url) in told.items():
        if md5 not in known:
            continue
        shutil.rmtree(mark.parents[1], ignore_errors=True)
        if url:
            from segbench.training.mirror import delete

            delete(url)
