"""What the stage scripts share: how a stage begins, and how it ends."""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable

from segbench.errors import InputError
from segbench.tracking import follower

# What a machine can be short of, and what a person does about it.
WAYS_OUT = {
    errno.ENOSPC: "free some space ('make plan' says how much is needed)",
    errno.EDQUOT: "free some of your quota ('make plan' says how much is needed)",
    errno.EFBIG: "raise the limit of file sizes",
    errno.EMFILE: "raise the limit of open files ('ulimit -n'), or lower split.num_folds",
    errno.ENOTDIR: "use a path whose folders are folders",
    errno.EEXIST: "take away what is in its place",
    errno.ELOOP: "mend the links on the way to it",
    errno.EROFS: "use a folder that can be written to",
    errno.EACCES: "use a folder that you may read and write",
    errno.EPERM: "use a folder that you may read and write",
}


def arguments(description: str | None, **kinds: Callable[[str], object]) -> argparse.Namespace:
    """Parse `--name value` for every name; all are required, since paths live in dvc.yaml."""
    parser = argparse.ArgumentParser(description=description)
    for name, kind in kinds.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    return parser.parse_args()


def run(name: str, work: Callable[[], str]) -> None:
    """Do a stage's work and print, as the last line, what it made, if it says so.

    A user's mistake becomes one line on stderr and exit status 1, without a traceback.
    """
    # As an exception, so that records end and temporary files go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if said := work():
            print(f"{name}: {said}")
    except InputError as mistake:
        sys.exit(f"error: {name}: {mistake}")
    except OSError as problem:
        if problem.errno not in WAYS_OUT:
            raise
        reason = f"{problem.filename or 'writing'}: {os.strerror(problem.errno).lower()}"
        sys.exit(f"error: {name}: {reason}; {WAYS_OUT[problem.errno]}")
    except KeyboardInterrupt:
        sys.exit(130)


def run_tracked(name: str, work: Callable[[], str]) -> None:
    """`run`, for a stage that writes a record.

    What it needs is imported by `work`, at the same time as the follower imports MLflow.
    """

    def followed() -> str:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes one writes the record
            follower.start()
        try:
            return work()
        finally:
            follower.end_unused()

    run(name, followed)
