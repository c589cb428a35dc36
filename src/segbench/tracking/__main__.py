"""Where runs go, and records on their way there.

python -m segbench.tracking --uri             where runs go
python -m segbench.tracking RECORD...         replay finished records
"""

import argparse
import logging
import sys
from contextlib import suppress
from pathlib import Path

from segbench.tracking.replay import UNREACHABLE, connect, follow, replay, tracking_uri


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog="segbench.tracking")
    parser.add_argument("records", nargs="*", type=Path)
    parser.add_argument("--uri", action="store_true", help="print where runs go")
    parser.add_argument("--follow", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    uri = tracking_uri(Path.cwd())
    if arguments.uri:
        print(uri)
        return
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        if arguments.follow:
            with suppress(*UNREACHABLE):
                connect(uri)  # what takes time, before there is anything to follow
            if folder := sys.stdin.readline().rstrip("\n"):  # none if the stage ended before
                follow(Path(folder), uri, arguments.follow)
        else:
            unfinished = replay(arguments.records, uri)
            print(f"{len(arguments.records) - len(unfinished)} records are in {uri}")
            for folder in unfinished:
                print(f"warning: {folder} has not ended; its run stays open", file=sys.stderr)
    except UNREACHABLE as problem:
        reason = " ".join(str(problem).split())[:300]
        sys.exit(f"error: MLflow at {uri} does not take the records: {reason}")


if __name__ == "__main__":
    main()
