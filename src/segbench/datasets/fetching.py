"""Archives of published datasets: brought to this machine, checked and unpacked."""

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pooch
import requests
from filelock import FileLock

from segbench.errors import InputError
from segbench.files import atomic_file, atomic_folder
from segbench.progress import ProgressBar

CHECKSUM = "md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}"
BLOCK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
# Some servers call a .tar.gz gzip-encoded, which requests would undo.
AS_IT_IS = {"Accept-Encoding": "identity"}
PAUSES = (1.0, 4.0)  # seconds before an address is tried again

# What an archive raises, beside OSError, that is damaged (ValueError: has a name that cannot be) or
# beyond the standard library (RuntimeError: is encrypted or packed by an unknown method).
UNREADABLE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, ValueError, RuntimeError, KeyError),
)
# OSErrors that blame the archive: gzip and bz2 give no number; names that clash or are too long.
ARCHIVE_ERRORS = {None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
ENDINGS = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")
HOLLOW, HOLLOW_PER_FILE = 10_000, 5
"""Members of an archive that hold nothing, and take as long to unpack as those that do."""
HEADER, HEADERS, HEADERS_PER_FILE = 1 << 20, 16 << 20, 16 << 10
"""Bytes of a header in a tar, of all, and of all for each member."""
GLOBAL_FIELDS = 1000
"""That a tar may give all its members: each is told all of them."""
BY_HAND = "unpack it by hand and set dataset.source to the folder"


@dataclass(frozen=True)
class Archive:
    """One file of a published dataset."""

    name: str  # also its name in the cache
    urls: tuple[str, ...]  # the official address, then mirrors; empty if it needs a login
    checksum: str | None  # "md5:..." or "sha256:..." as published
    page: str  # where a person gets it
    tried: bool = True  # False if the authors of segbench could not try the addresses


def locate_files(
    title: str,
    archives: Sequence[Archive],
    source: str | None,
    checksums: Mapping[str, str],
    max_unpacked_bytes: int,
) -> Path:
    """Folder that holds a dataset's files, those of all archives together.

    Args:
        title: of the dataset; names its folder in the cache.
        archives: of the dataset, as published.
        source: a folder to use as it is, a folder of the archives, an archive, or None to fetch
            them into the cache.
        checksums: by file name; they take precedence over the published ones.
        max_unpacked_bytes: of all archives together.

    Raises:
        InputError: if something cannot be fetched, read or vouched for, or unpacks to too much.
    """
    cache = Path(os.environ.get("SEGBENCH_CACHE") or pooch.os_cache("segbench")) / title
    for name, checksum in checksums.items():
        if not re.fullmatch(CHECKSUM, checksum):
            raise InputError(f"dataset.checksums.{name}: {checksum!r} must fit {CHECKSUM}")
    known = {archive.name: archive.checksum for archive in archives if archive.checksum}
    known.update(checksums)
    files = [cache / archive.name for archive in archives]
    if source is not None:
        local = Path(source).expanduser()
        files = _local_archives(local, archives)
        if not files:
            return local
        known = {path.name: _checked(path, path.name, known.get(path.name)) for path in files}
    # What lies unpacked was checked before and is whole by its rename: the checksums in its name
    # are enough, and no lock is needed, so that a filled cache may be read-only. Local archives,
    # which may change, are read again each time.
    sums = "\n".join(known.get(path.name, "unknown") for path in files)
    folder = cache / f"unpacked-{hashlib.sha256(sums.encode()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        if folder.is_dir():
            return folder
        # Nobody else writes here now: what is partial is of a run that was killed.
        for left in cache.glob(".partial-*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if source is None:
            _fetch_all(cache, archives, known)
        with atomic_folder(folder) as partial:
            budget = UnpackBudget(max_unpacked_bytes)
            for path in files:
                _unpack(path, partial, budget)
    return folder


def _local_archives(source: Path, archives: Sequence[Archive]) -> list[Path]:
    """The archives that `source` stands for; none if it is a folder to use as it is."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(
            f"dataset.source: nothing at {source}; set it to a folder of the dataset's files or "
            "to an archive"
        )
    paths = [source / archive.name for archive in archives]
    # A folder beside the archives is what they unpack to.
    folders = [path for path in source.iterdir() if path.is_dir() and path.name[0] != "."]
    return paths if not folders and all(path.is_file() for path in paths) else []


def _checked(path: Path, name: str, expected: str | None) -> str:
    """Checksum of a file, which must be the expected one where one is known."""
    algorithm = expected.partition(":")[0] if expected else "sha256"
    with open(path, "rb") as file:
        # md5 tells damage here, not malice; some systems refuse it for more.
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    got = f"{algorithm}:{digest.hexdigest()}"
    if expected not in (None, got):
        raise InputError(
            f"{path.with_name(name)}: the checksum is {got}, not {expected}; delete the file and "
            f"fetch it again or, if it is good, set dataset.checksums.{name} to the former"
        )
    return got


def _fetch_all(cache: Path, archives: Sequence[Archive], known: Mapping[str, str]) -> None:
    for archive in archives:
        _fetch(cache, archive, known.get(archive.name))
    # What nobody vouches for is not unpacked; the files stay for the next run.
    unknown = [
        f"if {archive.name} is what {archive.page} offers, set dataset.checksums.{archive.name} to "
        f"{_checked(cache / archive.name, archive.name, None)}"
        for archive in archives
        if archive.name not in known
    ]
    if unknown:
        raise InputError(f"{cache}: fetched, but no checksum is known; {'; '.join(unknown)}")


def _fetch(cache: Path, archive: Archive, expected: str | None) -> None:
    """Bring an archive into the cache if it is not there, by the first address that works."""
    path = cache / archive.name
    failures = []
    if path.is_file():
        try:
            _checked(path, archive.name, expected)
            return
        except InputError as error:
            failures.append(str(error))  # the file stays until a good one takes its place
    for url in archive.urls:
        try:
            _download(url, path, expected)
            return
        except InputError as error:
            failures.append(f"{url}: {error}")
    problem = "could not be fetched" if archive.urls else "cannot be fetched without a login"
    if archive.urls and not archive.tried:
        problem += ", by an address that the authors of segbench never tried"
    reasons = f" ({' | '.join(failures)})" if failures else ""
    put = (
        f"and put it into {cache}, or set"
        if archive.name.endswith(ENDINGS)
        else "unpack it and set"
    )
    raise InputError(
        f"{archive.name}: {problem}{reasons}; get it from {archive.page} {put} dataset.source to a "
        "folder that holds the unpacked files"
    )


def _download(url: str, path: Path, expected: str | None) -> None:
    """Download a file to `path`; InputError says why it could not be done."""
    # The downloader without pooch.retrieve, whose files none but the user may read (mode 0600)
    # and whose temporary files, left by a killed process, cannot be told from others.
    for pause in (*PAUSES, None):
        bar = ProgressBar(path.name, None, "MB", scale=1e6)
        download = pooch.HTTPDownloader(
            progressbar=bar, chunk_size=BLOCK, timeout=TIMEOUT, headers=AS_IT_IS
        )
        try:
            with bar, atomic_file(path) as partial:
                download(url, str(partial), None)
                _checked(partial, path.name, expected)
                if not (expected or zipfile.is_zipfile(partial) or tarfile.is_tarfile(partial)):
                    raise InputError("what came is no zip and no tar file")
            return
        except requests.RequestException as error:
            status = 0 if error.response is None else error.response.status_code
            if pause is None or (400 <= status < 500 and status not in (408, 429)):
                raise InputError(_reason(error)) from None
            time.sleep(pause)


def _reason(error: BaseException) -> str:
    """The innermost cause; requests wraps it, and the address, several times."""
    while error.__context__:
        error = error.__context__
    return " ".join(str(error).split()).partition(" for url: ")[0] or type(error).__name__


@dataclass
class UnpackBudget:
    """How many bytes a dataset's files may unpack to, how many have been written, and of what."""

    limit: int
    used: int = 0
    files: int = 0
    hollow: int = 0

    def count(self, archive: Path, holds: bool) -> None:
        """Count a member; InputError if far more of them are empty, folders or links than not.

        Args:
            archive: for messages.
            holds: whether it is a file that is not empty.
        """
        self.files += holds
        self.hollow += not holds
        if self.hollow > HOLLOW + HOLLOW_PER_FILE * self.files:
            raise InputError(
                f"{archive}: {self.hollow} of its first {self.hollow + self.files} members are "
                f"empty files, folders or links, the limit is {HOLLOW} and {HOLLOW_PER_FILE} for "
                f"each other file; if that is right, {BY_HAND}"
            )

    def take(self, archive: Path, size: int) -> None:
        """Count what an archive writes; InputError beyond the limit."""
        self.used += size
        if self.used > self.limit:
            raise InputError(
                f"{archive}: unpacks to more than the limit of {self.limit} bytes for a dataset; "
                f"if that is right, {BY_HAND}"
            )


def _unpack(archive: Path, folder: Path, budget: UnpackBudget) -> None:
    with open(archive, "rb") as file:
        unpack = _unpack_zip if file.read(2) == b"PK" else _unpack_tar
    try:
        unpack(archive, folder, budget)
    except InputError:
        raise
    except (*UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in ARCHIVE_ERRORS:
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"{archive}: unreadable as zip or tar ({reason}); fetch it again or {BY_HAND}"
        ) from None


def _unpack_zip(archive: Path, folder: Path, budget: UnpackBudget) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        # The sizes in the headers refuse early; what is written counts.
        UnpackBudget(budget.limit, budget.used).take(
            archive, sum(member.file_size for member in members)
        )
        names = [member.filename for member in members if not member.is_dir()]
        if len(names) > len(set(names)):
            raise zipfile.BadZipFile("a member is in it twice")
        for member in members:
            budget.count(archive, member.file_size > 0)
            target = Path(os.path.realpath(folder / member.filename))
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if is_link or not target.is_relative_to(os.path.realpath(folder)):
                raise _unwanted(archive, member.filename)
            (target if member.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
            if not member.is_dir():
                with file.open(member) as packed, open(target, "wb") as unpacked:
                    while block := packed.read(BLOCK):
                        budget.take(archive, len(block))
                        unpacked.write(block)


def _unpack_tar(archive: Path, folder: Path, budget: UnpackBudget) -> None:
    with _decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        data = 0
        for number, member in enumerate(file, 1):
            stream.blocks = 0
            if member.offset_data - data > HEADERS + number * HEADERS_PER_FILE:
                raise _too_large(archive, f"its first {number} members together")
            if len(file.pax_headers) > GLOBAL_FIELDS:
                raise _too_large(archive, "all its members")
            data += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            budget.count(archive, member.isreg() and member.size > 0)
            budget.take(archive, member.size)  # exactly what extract writes
            try:
                if member.name.startswith("/"):  # which the filter would strip
                    raise tarfile.AbsolutePathError(member)
                file.extract(member, folder, filter="data")
            except tarfile.FilterError:
                raise _unwanted(archive, member.name) from None
        # A torn header ends the loop without a word, so what ended it must be the zeros that end
        # a tar. Reading to the end of the file checks the checksum of its compression.
        stream.seek(file.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("the end is missing")
        while stream.read(BLOCK):
            pass


class _Stream(io.BufferedReader):
    """What tarfile reads: data in small pieces, but a header at once, however large it says it is.

    Args:
        raw: decompresses.
        archive: for messages.
    """

    def __init__(self, raw: io.RawIOBase, archive: Path) -> None:
        super().__init__(raw)
        self._archive = archive
        self.blocks = 0
        """Read one after the other; whoever reads the next member sets it to 0."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read; InputError for more than the largest header, at once or block after block."""
        self.blocks = self.blocks + 1 if size == tarfile.BLOCKSIZE else 0
        if size is None or not 0 <= size <= HEADER or self.blocks * tarfile.BLOCKSIZE > HEADER:
            raise _too_large(self._archive, "a member")
        return super().read(size)


def _decompressed(archive: Path) -> _Stream:
    with open(archive, "rb") as file:
        start = file.read(6)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if start.startswith(magic):
            return _Stream(cast(io.RawIOBase, opener(archive)), archive)
    return _Stream(open(archive, "rb", buffering=0), archive)


def _too_large(archive: Path, of: str) -> InputError:
    return InputError(
        f"{archive}: the headers of {of} are larger than {HEADER} bytes, or "
        f"{HEADERS_PER_FILE} a member; if that is right, {BY_HAND}"
    )


def _unwanted(archive: Path, name: str) -> InputError:
    why = "wants out of its folder, or is a link or device that may not be"
    return InputError(f"{archive}: member {name!r} {why}; if you trust it, {BY_HAND}")
