"""DVC's run cache: what every stage made, by what it was made of."""

import hashlib
from contextlib import chdir
from pathlib import Path

from segbench.files import atomic_file
from segbench.recovery.lock_file import LOCK, state_folder


def keep_runs(root: Path) -> None:
    """Note the stages of dvc.lock in the run cache, so that earlier params bring outputs back.

    DVC does so itself, but not for a stage with an output that git holds, though it can restore
    one. Stages whose outputs persist are in no run cache.

    Args:
        root: of a workspace whose outputs are those in dvc.lock.
    """
    mark, lock = state_folder(root) / "runs", root / LOCK
    if not lock.exists():  # nothing has run yet
        return
    md5 = hashlib.md5(lock.read_bytes(), usedforsecurity=False).hexdigest()
    if mark.exists() and mark.read_text().strip() == md5:
        return
    from dvc.repo import Repo

    # DVC takes paths from the current folder. Another may work beside this one, and holds its lock
    # for moments only.
    with chdir(root), Repo(_wait_for_lock=True) as repo, repo.lock:
        for stage in repo.index.stages:
            noted = all(part.hash_info for part in (*stage.deps, *stage.outs))
            if noted and not stage.cmd_changed and not stage.changed_outs():
                repo.stage_cache.save(stage)
    with atomic_file(mark) as partial:
        partial.write_text(f"{md5}\n")
