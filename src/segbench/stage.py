"""What the stage scripts share: how a stage begins, and how it ends."""

import argparse
import signal
import sys
from collections.abc import Callable

from segbench.errors import InputError


def arguments(description: str | None, **kinds: Callable[[str], object]) -> argparse.Namespace:
    """Parse `--name value` for every name; all are required, since paths live in dvc.yaml."""
    parser = argparse.ArgumentParser(description=description)
    for name, kind in kinds.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    return parser.parse_args()


def run(name: str, work: Callable[[], str]) -> None:
    """Do a stage's work and print, as the last line, what it made.

    A user's mistake becomes one line on stderr and exit status 1, without a traceback.
    """
    # As an exception, so that records end and temporary files go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print(f"{name}: {work()}")
    except InputError as mistake:
        sys.exit(f"error: {name}: {mistake}")
    except KeyboardInterrupt:
        sys.exit(130)
