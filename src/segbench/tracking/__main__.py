"""The process of a `Follower`: python -m segbench.tracking STAGE_PROCESS_ID.

The record's folder comes on stdin, once the stage knows it.
"""

import gc
import sys
from contextlib import suppress
from pathlib import Path

from segbench.errors import leave
from segbench.tracking.address import tracking_uri
from segbench.tracking.follower import TOLD, mark_of


def main(stage: int) -> None:
    """Follow one record of the process `stage`."""
    gc.disable()  # as in `stage.main`
    from segbench.tracking.client import UNREACHABLE, connect, quiet
    from segbench.tracking.replay import follow

    gc.enable()
    uri = tracking_uri(Path.cwd())
    quiet()
    with suppress(*UNREACHABLE):
        connect(uri)  # the slow part, done before there is anything to follow
    # It is empty if the stage has ended.
    if folder := sys.stdin.readline().rstrip("\n"):
        if not follow(Path(folder), uri, stage):
            sys.exit(TOLD)
        mark_of(Path(folder)).unlink(missing_ok=True)
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]))
