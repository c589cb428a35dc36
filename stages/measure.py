"""Measure what each candidate's network costs on this machine, unless it is known."""

from pathlib import Path

from segbench import stage
from segbench.evaluation.measure import measure
from segbench.params import load_params

# Processes that measure memory import this file too.
if __name__ == "__main__":
    args = stage.arguments(__doc__, params=Path, arrays=Path, out=Path)
    stage.run("measure", lambda: measure(load_params(args.params), args.arrays, args.out))
