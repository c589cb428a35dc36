"""Command line of tracking.

python -m segbench.tracking --uri             print the tracking server's address
python -m segbench.tracking --serve PORT      serve MLflow's pages, for this machine only
python -m segbench.tracking RECORD...         replay records into MLflow
"""

import argparse
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from segbench.tracking.replay import ARTIFACTS, UNREACHABLE, connect, follow, replay, tracking_uri


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog="segbench.tracking")
    parser.add_argument("records", nargs="*", type=Path)
    parser.add_argument("--uri", action="store_true", help="print the tracking server's address")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve MLflow's pages")
    parser.add_argument("--follow", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    uri = tracking_uri(Path.cwd())
    if arguments.uri:
        print(uri)
        return
    if arguments.serve:
        serve(uri, arguments.serve)
        return
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        if arguments.follow:
            with suppress(*UNREACHABLE):
                connect(uri)  # the slow part, done before there is anything to follow
            if folder := sys.stdin.readline().rstrip("\n"):  # empty if the stage has ended
                follow(Path(folder), uri, arguments.follow)
        else:
            unfinished = replay(arguments.records, uri)
            print(f"{len(arguments.records) - len(unfinished)} records are in {uri}")
            for folder in unfinished:
                print(f"warning: {folder} has not ended; its run stays open", file=sys.stderr)
    except UNREACHABLE as problem:
        reason = " ".join(str(problem).split())[:300]
        sys.exit(f"error: MLflow at {uri} does not take the records: {reason}")


def serve(uri: str, port: int) -> None:
    """Become the process that serves MLflow's pages; of a server elsewhere, say where it is."""
    if uri.startswith("http"):
        print(f"runs are at {uri}")
        return
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    os.execv(sys.executable, [*command, "--default-artifact-root", ARTIFACTS])


if __name__ == "__main__":
    main()
