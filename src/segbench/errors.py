"""Mistakes a user can fix, and how commands and stages end."""

import atexit
import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

# What a machine can be short of, and what a person does about it.
WAYS_OUT = {
    errno.ENOSPC: "free some space ('segbench plan' says how much is needed)",
    errno.EDQUOT: "free some of your quota ('segbench plan' says how much is needed)",
    errno.EFBIG: "raise the limit of file sizes",
    errno.EMFILE: "raise the limit of open files ('ulimit -n'), or lower split.num_folds",
    errno.ENOTDIR: "use a path whose folders are folders",
    errno.EEXIST: "take away what is in its place",
    errno.ELOOP: "mend the links on the way to it",
    errno.EROFS: "use a folder that can be written to",
    errno.EACCES: "use a folder that you may read and write",
    errno.EPERM: "use a folder that you may read and write",
}


class InputError(ValueError):
    """Bad input, in one line: what is wrong, where, the limit and the way out.

    A command or stage prints it without a traceback and exits with status 1; any other exception
    is a defect of segbench and keeps its traceback.
    """


SECRETS = (
    # Name and password of an address, whatever they are made of; then of one without its protocol.
    (re.compile(r"(\w://)\S*@"), r"\1***@"),
    (re.compile(r"(?<![^\s'\"=])[^\s:/@'\"]+:[^\s/@'\"][^\s@'\"]*@"), "***@"),
    # What signs a request.
    (re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\"]+"), r"\1?***"),
    (re.compile(r"\?[\w.~-]+=[^\s'\"]*"), "?***"),
)
"""What gives a secret away in text, and what is shown in its place."""


def without_secrets(text: object) -> str:
    """What may be printed or kept of text that addresses stand in: no name, password or token.

    Everything of an address up to its last @ goes, and everything behind its first question mark.
    """
    said = str(text)
    for secret, shown in SECRETS:
        said = secret.sub(shown, said)
    return said


@contextmanager
def exit_statuses(prefix: str = "") -> Iterator[None]:
    """End the process as every command and stage ends.

    A mistake that a user can fix becomes one line on stderr and exit status 1; Ctrl-C is 130 and
    SIGTERM 143.

    Args:
        prefix: what the line begins with, behind `error: `.
    """
    # As an exception, so that records end and temporary files go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except InputError as mistake:
        sys.exit(f"error: {prefix}{without_secrets(mistake)}")
    except OSError as problem:
        if problem.errno not in WAYS_OUT:
            raise
        reason = f"{problem.filename or 'writing'}: {os.strerror(problem.errno).lower()}"
        sys.exit(f"error: {prefix}{without_secrets(reason)}; {WAYS_OUT[problem.errno]}")
    except KeyboardInterrupt:
        sys.exit(130)


def leave() -> NoReturn:
    """End the process with status 0, without freeing its memory piece by piece.

    That takes Python a second where torch or MLflow was imported.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
