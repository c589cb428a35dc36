"""Checkpoints on disk; a killed training resumes from the latest."""

import hashlib
import os
import pickle
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from filelock import FileLock, Timeout
from torch.utils.serialization import config

from segbench.errors import InputError
from segbench.files import atomic_file
from segbench.tracking.records import Run, read_run, write_run
from segbench.training.mirror import Mirror
from segbench.untrusted.archives import check_stored

FINISHED = "finished"
"""A file beside the checkpoints of a training that ended, with the md5 of its run file and, in a
second line, where else they are kept. They are deleted once dvc.lock has that md5
(`recovery.trainings`): until then DVC would train again."""
KEPT = 3
"""Checkpoints kept on disk: the latest, the one before it in case the latest is damaged, and one
whose file is reused for the next, since allocating fresh pages can take longer than writing."""
CHECKSUM_BYTES = 4
BLOCK = 1 << 24
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
        self._mirror: Mirror | None = None
        for other in folder.iterdir() if folder.exists() else ():
            if other != self.folder and other.is_dir():
                shutil.rmtree(other, ignore_errors=True)  # several processes may try at once

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run against other processes.

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

    @contextmanager
    def mirrored(self, url: str | None) -> Iterator[None]:
        """Keep them in a store too, of which this machine first takes what it lacks.

        Args:
            url: of the store; None: on this machine alone.

        Raises:
            InputError: if the store cannot be used.
        """
        if url is None:
            yield
            return
        with Mirror(url, self.folder, KEPT) as self._mirror:
            whole = (path.name for path in self._newest_first() if _is_whole(path))
            self._mirror.fetch(next(whole, ""), _check)
            yield

    def same_run(self, run: Run) -> Run:
        """The description saved when the run first started, on whatever machine; saves the given
        one on first start, or if that one is damaged.

        Raises:
            InputError: if the store that mirrors them cannot be written to.
        """
        found = self._known_run() or run
        if found is run:
            write_run(self.folder, run)
        if self._mirror:
            self._mirror.begin(next(iter(self._newest_first()), None))
        return found

    def _known_run(self) -> Run | None:
        try:
            return read_run(self.folder)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError):
            said = "damaged; the training goes on as a new run of MLflow"
            print(f"warning: {self.folder / 'run.json'}: {said}", file=sys.stderr)
        return None

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write a state atomically, in place of the oldest.

        Raises:
            OSError: if the disk is full; the last two checkpoints are kept.
        """
        path = self.folder / f"{step:09d}.pt"
        with atomic_file(path) as partial:
            for old in self._newest_first()[KEPT - 1 :]:
                if not (self._mirror and self._mirror.uploading == old):
                    os.replace(old, partial)
            partial.touch()
            with partial.open("rb+") as file:
                try:
                    # Nobody reads torch's own checksums, which take as long as the rest.
                    with config.patch("save.compute_crc32", False):  # type: ignore[attr-defined]
                        summed = _Summed(file)
                        torch.save(state, summed)  # type: ignore[arg-type]
                    file.write(summed.checksum())
                except RuntimeError as error:
                    # torch wraps the OSError of a failed write; raise that instead.
                    if isinstance(error.__context__, OSError):
                        raise error.__context__ from None
                    raise
                file.truncate()
        self.share(path)

    def share(self, checkpoint: Path | None = None) -> None:
        """Bring what stands beside the checkpoints, and a new one, to the store that mirrors them;
        returns at once."""
        if self._mirror:
            self._mirror.push(checkpoint)

    def load_latest(self) -> dict[str, Any] | None:
        """The latest readable state; None if there is none."""
        for path in self._newest_first():
            try:
                _check(path)
                check_stored(path)
                # Not mapped, since the file will be overwritten.
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, pickle.PickleError) as problem:
                reason = " ".join(str(problem).split())[:160]
                said = f"warning: {path}: damaged ({reason}); taking the one before it"
                print(said, file=sys.stderr)
            else:
                return state
        return None

    def finish(self, run: Path) -> None:
        """Note that the training has written everything, its run file last."""
        md5 = hashlib.md5(run.read_bytes(), usedforsecurity=False).hexdigest()
        with atomic_file(self.folder / FINISHED) as partial:
            lines = [md5, *([self._mirror.url] if self._mirror else [])]
            partial.write_text("".join(f"{line}\n" for line in lines))

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.pt"), reverse=True)


class _Summed:
    """A file that is written once, from its start, and its checksum."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._crc = 0

    def write(self, data: bytes) -> int:
        self._crc = zlib.crc32(data, self._crc)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def checksum(self) -> bytes:
        """The last bytes of a checkpoint file, behind torch's archive."""
        return self._crc.to_bytes(CHECKSUM_BYTES, "little")


def _check(path: Path) -> None:
    """Raise ValueError unless a checkpoint file is the one that was written."""
    left, crc = path.stat().st_size - CHECKSUM_BYTES, 0
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, BLOCK))):
            crc, left = zlib.crc32(block, crc), left - len(block)
        if left or file.read() != crc.to_bytes(CHECKSUM_BYTES, "little"):
            raise ValueError("its checksum is another")


def _is_whole(path: Path) -> bool:
    try:
        _check(path)
    except (OSError, ValueError):
        return False
    return True
