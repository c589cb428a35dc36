"""The process in which `segbench repro --jobs` runs the pipeline of the current folder.

python -m segbench.jobs JOBS WAIT [STAGE]...: a number of jobs or 'auto'; 'wait' for the lock of
another DVC, or 'now'.
"""

import sys
from pathlib import Path

from dvc.exceptions import DvcException

from segbench.errors import InputError, exit_statuses
from segbench.jobs.memory import Memory
from segbench.jobs.pipeline import Pipeline
from segbench.jobs.schedule import Outcome, Schedule
from segbench.jobs.slots import slots_of
from segbench.jobs.view import View
from segbench.params import load_params


def main(jobs: str, wait: str, *targets: str) -> None:
    """Run what is out of date.

    Raises:
        InputError: if stages failed; it lists them.
        SystemExit: 128 plus the signal that ended all.
    """
    slots = slots_of(
        None if jobs == "auto" else int(jobs), load_params(Path("params.yaml")).hardware
    )
    print(f"{len(slots)} jobs at a time, each with {slots[0].says}", file=sys.stderr)
    try:
        with (
            Pipeline(Path(), targets, wait == "wait") as pipeline,
            View(pipeline.stages, len(slots), sys.stderr) as view,
        ):
            outcome = Schedule(pipeline, slots, view, Memory()).run()
    except DvcException as problem:
        raise InputError(str(problem)) from None
    if outcome.stopped_by:
        sys.exit(128 + outcome.stopped_by)
    if outcome.failed:
        raise InputError(_failures(outcome))


def _failures(outcome: Outcome) -> str:
    """What failed and why, a line each."""
    lines = [f"{name}: {why}" for name, why in outcome.failed.items()]
    if left := outcome.left_out:
        few = ", ".join(left[:3]) + (" ..." if len(left) > 3 else "")
        lines.append(f"not run, since they need what failed: {few} ({len(left)} stages)")
    number = len(outcome.failed)
    return f"{number} stage{'s' if number > 1 else ''} failed:\n  " + "\n  ".join(lines)


if __name__ == "__main__":
    with exit_statuses():
        main(*sys.argv[1:])
