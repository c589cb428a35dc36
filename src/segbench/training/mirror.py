"""A run's checkpoints in a store that other machines reach too, by fsspec."""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fsspec import AbstractFileSystem, url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations
from fsspec.utils import get_protocol

from segbench.errors import InputError, without_secrets
from segbench.files import atomic_file

WAIT_S, WAIT_INTERRUPTED_S = 600.0, 20.0
"""The end of a training waits so long for its last upload."""
CHECKPOINT = re.compile(r"\d+\.pt")
DESCRIPTIONS = "[a-z]*.json"
"""What goes along with checkpoints: the run's id, and the trials of its learning rate."""


class Mirror:
    """The store's copy of the checkpoints of one run, in `<url>/<run>.<key>`.

    Uploads happen in a thread while the training goes on. One waits at most: the newest. Files get
    their names when they are whole, in as far as the store has such a thing; checkpoints carry a
    checksum besides.

    Args:
        url: `checkpoints.url`.
        folder: of the checkpoints on this machine, `<run>/<key>`.
        kept: number of checkpoints kept in the store.

    Attributes:
        url: of this run's copy.
        uploading: the checkpoint that is being read, which must stay as it is meanwhile.

    Raises:
        InputError: as `open_store`.
    """

    def __init__(self, url: str, folder: Path, kept: int) -> None:
        self._files, self._base = open_store(url)
        self._run, self._folder, self._kept = f"{folder.parent.name}.", folder, kept
        name = f"{self._run}{folder.name}"
        self._place, self.url = f"{self._base}/{name}", f"{url.rstrip('/')}/{name}"
        self.uploading: Path | None = None
        self._waiting: Path | None = None
        self._changed = threading.Condition()
        self._due = self._closing = self._fails = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def fetch(self, newest: str, check: Callable[[Path], None]) -> None:
        """Bring what this machine lacks, and delete what other keys of this run left.

        Args:
            newest: name of the newest whole checkpoint of this machine; empty if there is none.
            check: raises ValueError for a checkpoint that is not whole.

        Raises:
            InputError: if the store cannot be read.
        """
        with _as_input_error(self.url):
            for name in self._names():
                if Path(name).match(DESCRIPTIONS) and not (self._folder / name).exists():
                    self._get(name)
            for name in self._checkpoints():
                if name <= newest:
                    break
                try:
                    self._get(name, check)
                except ValueError as problem:
                    said = f"damaged ({problem}); taking the one before it"
                    print(f"warning: {self.url}/{name}: {said}", file=sys.stderr)
                else:
                    break
            self._delete_other_keys()

    def begin(self, newest: Path | None) -> None:
        """Upload what this machine has before it trains, at once.

        Args:
            newest: the newest checkpoint of this machine, which the store may have.

        Raises:
            InputError: if the store cannot be written to.
        """
        with _as_input_error(self.url):
            known = newest is None or newest.name in self._checkpoints()
            self._upload(None if known else newest)

    def push(self, checkpoint: Path | None = None) -> None:
        """Upload descriptions and, in place of one that waits, a checkpoint; returns at once."""
        with self._changed:
            self._waiting, self._due = checkpoint or self._waiting, True
            self._changed.notify()
        if not self._thread.ident:
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if not self._thread.ident:
            return
        wait = WAIT_S if kind is None else WAIT_INTERRUPTED_S
        self._thread.join(wait)
        if self._thread.is_alive():
            said = f"{self.url} did not take the last checkpoint within {wait:.0f} s"
            print(f"warning: checkpoints.url: {said}", file=sys.stderr)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._closing)
                if not self._due:
                    return
                self.uploading, self._waiting, self._due = self._waiting, None, False
            try:
                self._upload(self.uploading)
                self._fails = False
            # A store may fail in any way, and the training does not need it.
            except Exception as problem:
                if not self._fails:
                    said = f"{self.url} does not take checkpoints ({_reason(problem)})"
                    then = "they are on this machine alone; tried again with each"
                    print(f"warning: checkpoints.url: {said}; {then}", file=sys.stderr)
                self._fails = True
            finally:
                self.uploading = None

    def _upload(self, checkpoint: Path | None) -> None:
        self._files.makedirs(self._place, exist_ok=True)
        for path in sorted(self._folder.glob(DESCRIPTIONS)):
            self._put(path)
        if checkpoint is not None:
            self._put(checkpoint)
        for name in self._checkpoints()[self._kept :]:
            self._files.rm(f"{self._place}/{name}")

    def _put(self, path: Path) -> None:
        # The same name for each try: what a killed one left is written over.
        partial = f"{self._place}/.partial-{path.suffix[1:]}"
        self._files.put_file(str(path), partial)
        self._files.mv(partial, f"{self._place}/{path.name}")

    def _get(self, name: str, check: Callable[[Path], None] = lambda path: None) -> None:
        with atomic_file(self._folder / name) as partial:
            self._files.get_file(f"{self._place}/{name}", str(partial))
            check(partial)

    def _names(self, folder: str = "") -> list[str]:
        """Names in a folder, by default this run's; none if it does not exist."""
        self._files.invalidate_cache()
        with suppress(FileNotFoundError):
            found = self._files.ls(folder or self._place, detail=False)
            return [path.rstrip("/").rpartition("/")[2] for path in found]
        return []

    def _checkpoints(self) -> list[str]:
        return sorted(filter(CHECKPOINT.fullmatch, self._names()), reverse=True)

    def _delete_other_keys(self) -> None:
        for name in self._names(self._base):
            place = f"{self._base}/{name}"
            if name.startswith(self._run) and place != self._place:
                with suppress(FileNotFoundError):
                    self._files.rm(place, recursive=True)
                why = "of other params, data, code, versions or hardware settings"
                print(f"deleted {name} in the store, checkpoints {why}", file=sys.stderr)


def open_store(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of `checkpoints.url` and the path in it, once it has answered.

    Raises:
        InputError: if there is no such protocol, package, folder or bucket, or no answer.
    """
    try:
        files, path = url_to_fs(url)
    except ImportError as problem:
        module = known_implementations[get_protocol(url)]["class"].partition(".")[0]
        way_out = "install it" if module == "fsspec" else f"pip install {module}"
        said = f"needs a package that is not installed ({_reason(problem)})"
        raise InputError(f"checkpoints.url: {url} {said}; {way_out}, or set null") from None
    except ValueError as problem:
        way_out = "write a folder, or a protocol of fsspec such as s3:// or gs://"
        raise InputError(f"checkpoints.url: {url}: {_reason(problem)}; {way_out}") from None
    # Folders are not made, since one that is missing may be a disk that is not mounted; below a
    # bucket there are none.
    root = path if isinstance(files, LocalFileSystem) else path.partition("/")[0] or "/"
    with _as_input_error(url):
        files.invalidate_cache()
        try:
            files.ls(path, detail=False)
        except FileNotFoundError:
            try:
                files.info(root)
            except FileNotFoundError:
                way_out = "make it, mount it, or correct the address"
                raise InputError(f"checkpoints.url: {url} does not exist; {way_out}") from None
    return files, path.rstrip("/")


def delete(url: str) -> None:
    """Delete the store's copy of a run that is done; a store that fails is told in a line."""
    try:
        files, path = url_to_fs(url)
        with suppress(FileNotFoundError):
            files.rm(path, recursive=True)
    # As in `Mirror`.
    except Exception as problem:
        said = f"cannot be deleted ({_reason(problem)}); the run is done, so delete it by hand"
        print(f"warning: {url} {said}", file=sys.stderr)


@contextmanager
def _as_input_error(url: str) -> Iterator[None]:
    """What a file system raises, which may be anything, as the user's to mend."""
    try:
        yield
    except InputError:
        raise
    except Exception as problem:
        said = f"{url} cannot be used ({_reason(problem)})"
        way_out = "mend the store or the credentials in the environment, or set null"
        raise InputError(f"checkpoints.url: {said}; {way_out}") from None


def _reason(problem: Exception) -> str:
    """An exception in one line, without secrets."""
    text = without_secrets(" ".join(str(problem).split()))
    return f"{type(problem).__name__}: {text[:160]}"
