"""The process that times candidates in a slot: python -m segbench.planning ALIAS...

It says that it is ready, waits until its input is closed, and prints what it timed.
"""

import sys
from pathlib import Path

from segbench.errors import exit_statuses
from segbench.params import load_params
from segbench.planning.in_slots import written
from segbench.planning.samples import read_samples
from segbench.planning.speed import time_here


def main(*aliases: str) -> None:
    """Time them with what this process has."""
    params = load_params(Path("params.yaml"))
    samples = read_samples(params.dataset)
    print("ready", flush=True)
    sys.stdin.read()
    print(written(time_here(params, aliases, samples)))


if __name__ == "__main__":
    with exit_statuses():
        main(*sys.argv[1:])
