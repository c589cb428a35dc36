"""Checkpoints of trainings that have ended: they are kept until DVC knows of it."""

import shutil
from pathlib import Path

from segbench.recovery.lock_file import LOCK

MARKS = "data/checkpoints/*/*/finished"
"""What `training.checkpoints` writes when a training ends: the md5 of its run file."""


def forget_finished(root: Path) -> None:
    """Delete the checkpoints of trainings that have ended and stand in dvc.lock.

    A training that was killed in between runs again, but trains no epoch.

    Args:
        root: of the workspace.
    """
    marks = list(root.glob(MARKS))
    try:
        known = (root / LOCK).read_text(errors="replace") if marks else ""
        ended = [mark for mark in marks if mark.read_text().strip() in known]
    except OSError:
        return  # another stage deletes them, or the disk fails, which the stage itself says
    for mark in ended:
        shutil.rmtree(mark.parents[1], ignore_errors=True)
