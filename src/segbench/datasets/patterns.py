"""Patterns of file names: `{id}`, other names in braces, `*` and `**`."""

import os
import re
import signal
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from segbench.errors import InputError

OF_MASKS = ("class", "part")
"""Names in braces that are no part of the id, but tell the mask files of one image apart."""
SEARCH_S = 5.0


def fields_of(pattern: str) -> list[str]:
    """Names in braces of a pattern.

    Raises:
        InputError: unless `{id}` is one of them, and none is there twice.
    """
    fields = re.findall(r"\{([a-z_]+)\}", pattern)
    if fields.count("id") != 1:
        raise InputError(f"pattern '{pattern}': needs {{id}} exactly once, as in images/{{id}}.png")
    if len(set(fields)) < len(fields):
        raise InputError(f"pattern '{pattern}': has a name in braces twice; use another or *")
    return fields


def expression_of(pattern: str, classes: Sequence[str] = ()) -> re.Pattern[str]:
    """Regular expression of a pattern, with a group for each name in braces; for names in NFC.

    Args:
        pattern: a field stands for one or more characters within a name, `*` for any within a name,
            `**/` for any folders. An ending matches in capitals also.
        classes: what `{class}` may stand for; empty: anything. Of several that fit, as `crack` and
            `deep_crack` do at the end of a name, it is the longest.
    """
    names = "|".join(re.escape(nfc(name)) for name in sorted(classes, key=len, reverse=True))
    any_part = r"[^/]+?" if names else r"[^/]+"

    def group(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{names if names and match[1] == 'class' else any_part})"

    expression = re.escape(nfc(pattern))
    for part, meaning in {r"\*\*/": r"(?:.*/)?", r"\*": r"[^/]*"}.items():
        expression = expression.replace(part, meaning)
    # .jpg and .JPG are one format.
    expression = re.sub(r"\\\.([A-Za-z0-9]+)$", r"\\.(?i:\1)", expression)
    return re.compile(re.sub(r"\\\{([a-z_]+)\\\}", group, expression))


def nfc(name: str) -> str:
    """A name in composed Unicode: macOS decomposes those that it writes."""
    return unicodedata.normalize("NFC", name)


def printable(name: str) -> str:
    """A file name as tables and messages have it, which are UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def files_below(source: Path, closed: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Files below a folder, also behind links, but hidden ones; no folder twice, so no loop.

    Args:
        source: the folder.
        closed: gets folders that cannot be listed; None: they are refused.

    Raises:
        InputError: for a folder that cannot be listed.
    """

    def unlisted(problem: OSError) -> None:
        if isinstance(problem, FileNotFoundError):
            return  # taken away meanwhile
        folder = Path(problem.filename)
        if closed is None:
            raise InputError(
                f"{folder}: a folder that cannot be listed ({problem.strerror}); let your user "
                "read it, or move it away"
            )
        closed(folder)

    seen = set()
    for folder, folders, names in os.walk(source, onerror=unlisted, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def matches(
    source: Path, files: Sequence[Path], pattern: str, classes: Sequence[str] = ()
) -> dict[Path, Mapping[str, str]]:
    """Files that match a pattern, with what its names in braces stand for.

    Args:
        source: the folder to which the pattern is relative.
        files: below it.
        pattern: of their names.
        classes: as `expression_of` takes them.

    Raises:
        InputError: for a name that is not UTF-8.
    """
    expression = expression_of(pattern, classes)
    found: dict[Path, Mapping[str, str]] = {}
    with time_to_search(pattern, len(files)):
        for path in files:
            name = path.relative_to(source).as_posix()
            match = expression.fullmatch(nfc(name))
            if not match:
                continue
            if os.fsencode(name) != name.encode(errors="replace"):
                raise InputError(f"{source}: the file name {name!r} is not UTF-8; rename it")
            found[path] = match.groupdict()
    return found


@contextmanager
def time_to_search(pattern: str, num_names: int) -> Iterator[None]:
    """Bounds the time in which a pattern is looked for in names.

    Nested repeats, as in `(a+)+$`, have exponentially many ways to fail, and each further `*` in a
    name multiplies the ways by its length. Python's `re` looks for signals while it searches.

    Args:
        pattern: as the user wrote it.
        num_names: to be searched.

    Raises:
        InputError: if it takes more than `SEARCH_S` of this process's time, and a millisecond for
            each name.
    """
    limit = SEARCH_S + num_names / 1000

    def stop(_number: int, _frame: object) -> NoReturn:
        raise InputError(
            f"pattern '{pattern}': searched for more than {limit:.0f} s in {num_names} names; "
            "write it without repeats of repeats, such as (a+)+, and with fewer *"
        )

    former = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


def unmatched_files(source: Path, patterns: Sequence[str], other: Sequence[Path]) -> list[str]:
    """Files below a folder that no pattern matches, by their names relative to it.

    Args:
        source: the folder.
        patterns: of the files that are read.
        other: files that have a use of their own.
    """
    expressions = [expression_of(pattern) for pattern in patterns]
    names = [
        # Those of other files need not be UTF-8, which tables and messages are.
        printable(path.relative_to(source).as_posix())
        for path in sorted(files_below(source))
        if path not in other
    ]
    with time_to_search(" ".join(patterns), len(names)):
        return [
            name
            for name in names
            if not any(map(re.Pattern.fullmatch, expressions, [nfc(name)] * len(expressions)))
        ]
