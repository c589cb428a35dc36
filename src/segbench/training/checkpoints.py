"""Checkpoints on disk; a killed training resumes from the latest."""

import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch.utils.serialization import config

from segbench.errors import InputError
from segbench.files import atomic_file
from segbench.tracking.records import Run, read_run, write_run

KEPT = 3
"""Checkpoints kept on disk: the latest, the one before it in case the latest is damaged, and one
whose file is reused for the next, since allocating fresh pages can take longer than writing."""
LOCK_TIMEOUT_S = 20
"""Wait this long for the lock, which workers of a killed training may hold for a while."""


class Checkpoints:
    """The checkpoints of one run.

    They lie outside DVC's outputs, since DVC removes those before a stage runs.

    Args:
        folder: named like the run; checkpoints in it under other keys are stale and deleted.
        key: hash of everything that determines the run.

    Attributes:
        folder: the subfolder of that key.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._all = folder
        self.folder = folder / key
        for other in folder.iterdir() if folder.exists() else ():
            if other != self.folder and other.is_dir():
                shutil.rmtree(other, ignore_errors=True)  # several processes may try at once

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run against other processes; delete its checkpoints when the block succeeds.

        Raises:
            InputError: if another process holds the lock.
        """
        self._all.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._all / "lock")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout:
            raise InputError(
                f"{self._all.name} is being trained by another process, which holds "
                f"{self._all / 'lock'}; wait for it, or end it"
            ) from None
        with lock:
            yield
            self.clear()

    def same_run(self, run: Run) -> Run:
        """The description saved when the run first started; saves the given one on first start."""
        if not (self.folder / "run.json").exists():
            write_run(self.folder, run)
        return read_run(self.folder)

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write a state atomically, in place of the oldest.

        Raises:
            OSError: if the disk is full; the last two checkpoints are kept.
        """
        with atomic_file(self.folder / f"{step:09d}.pt") as partial:
            for old in self._newest_first()[KEPT - 1 :]:
                os.replace(old, partial)
            partial.touch()
            with partial.open("rb+") as file:
                try:
                    # Nobody reads the checksums, which take as long as the rest.
                    with config.patch("save.compute_crc32", False):  # type: ignore[attr-defined]
                        torch.save(state, file)
                except RuntimeError as error:
                    # torch wraps the OSError of a failed write; raise that instead.
                    if isinstance(error.__context__, OSError):
                        raise error.__context__ from None
                    raise
                file.truncate()

    def load_latest(self) -> dict[str, Any] | None:
        """The latest readable state; None if there is none."""
        for path in self._newest_first():
            try:
                # Not mapped, since the file will be overwritten.
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, pickle.PickleError) as problem:
                reason = " ".join(str(problem).split())[:160]
                said = f"warning: {path} cannot be read ({reason}); taking the one before it"
                print(said, file=sys.stderr)
            else:
                return state
        return None

    def clear(self) -> None:
        """Delete all checkpoints of the run."""
        shutil.rmtree(self._all, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.pt"), reverse=True)
