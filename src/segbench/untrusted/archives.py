"""Zip archives as torch writes them, read so that no other reader sees something else in them."""

import io
import struct
import zipfile
from pathlib import Path

LOCAL = struct.Struct("<4s5H3L2H")
"""What stands before each member: signature, ..., length of its name and of an extra field."""
END_BYTES = 22
"""Of what ends an archive without a comment."""
ENCRYPTED = 0x1
UNREADABLE = (zipfile.BadZipFile, struct.error, NotImplementedError, EOFError, RuntimeError)


def read_members(data: bytes) -> dict[str, bytes]:
    """The members of an archive by their names without the root folder that they share.

    Args:
        data: of the whole archive.

    Raises:
        ValueError: unless it is one plain zip: members that are stored, not packed; each once, in
            the same words before its data as in the table at the end; nothing before, between
            (but padding) and behind them. What torch's own reader, or any other, finds is then the
            same.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if data[-END_BYTES : -END_BYTES + 4] != b"PK\x05\x06":
                raise ValueError("something is behind the archive's end")
            found = {}
            end = 0
            for member in sorted(archive.infolist(), key=lambda one: one.header_offset):
                end = _check_place(data, member, end)
                root, _, name = member.filename.partition("/")
                found[root, name.lower()] = name, archive.read(member)
            if end > archive.start_dir:
                raise ValueError("a member reaches into the table at the end")
    except UNREADABLE as problem:
        raise ValueError(f"no plain zip archive ({problem})") from None
    if len(found) < len(archive.infolist()):
        raise ValueError("a member is in it twice")
    if len({root for root, _ in found}) > 1:
        raise ValueError("its members have no root folder in common")
    return dict(found.values())


def _check_place(data: bytes, member: zipfile.ZipInfo, end: int) -> int:
    """Where a member ends; ValueError unless it follows the former one and is what the table says.

    Args:
        data: of the whole archive.
        member: in the table at the end.
        end: of the member before it; 0: it is the first.
    """
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise ValueError(f"{_shown(member.filename)} is packed, which torch never does")
    at = member.header_offset
    fields = LOCAL.unpack_from(data, at)
    start = at + LOCAL.size
    name = data[start : start + fields[-2]]
    if member.flag_bits & ENCRYPTED or at < end or (end == 0 and at != 0):
        raise ValueError(f"{_shown(member.filename)} lies where another member is, or is encrypted")
    if fields[0] != b"PK\x03\x04" or name != member.orig_filename.encode():
        raise ValueError(f"{_shown(member.filename)} has another name before its data")
    return start + fields[-2] + fields[-1] + member.file_size


def check_stored(path: Path) -> None:
    """Raise ValueError if a file that torch wrote as a zip has packed members, which may unpack to
    any size. Files of the format before zip pass."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [one for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]
    except UNREADABLE as problem:
        raise ValueError(f"no whole zip archive ({problem})") from None
    if packed:
        raise ValueError(f"{_shown(packed[0].filename)} is packed, which torch never does")


def _shown(name: str) -> str:
    return repr(name[:60])
