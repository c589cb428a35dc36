"""The process of a `Follower`: python -m segbench.tracking STAGE_PROCESS_ID.

The record's folder comes on stdin, once the stage knows it.
"""

import gc
import sys
from contextlib import suppress
from pathlib import Path

from segbench.errors import leave
from segbench.tracking.address import tracking_uri


def main(stage: int) -> None:
    """Follow one record of the process `stage`."""
    gc.disable()  # as in `stage.main`
    from segbench.tracking.replay import UNREACHABLE, connect, follow, quiet

    gc.enable()
    uri = tracking_uri(Path.cwd())
    quiet()
    try:
        with suppress(*UNREACHABLE):
            connect(uri)  # the slow part, done before there is anything to follow
        if folder := sys.stdin.readline().rstrip("\n"):  # empty if the stage has ended
            follow(Path(folder), uri, stage)
    except UNREACHABLE as problem:
        reason = " ".join(str(problem).split())[:300]
        sys.exit(f"error: MLflow at {uri} does not take the records: {reason}")
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]))
