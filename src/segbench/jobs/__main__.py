"""The process in which `segbench repro --jobs` or `--cluster` runs the pipeline of this folder.

python -m segbench.jobs [--wait] [--cluster FILE] [--jobs N|auto] [STAGE]...
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from dvc.exceptions import DvcException

from segbench.errors import InputError, exit_statuses
from segbench.jobs.exchange import Exchange
from segbench.jobs.machine import Machine
from segbench.jobs.memory import Memory
from segbench.jobs.pipeline import Pipeline
from segbench.jobs.schedule import Outcome, Place, Schedule
from segbench.jobs.slots import Slot, slots_of
from segbench.jobs.view import View
from segbench.params import Params, load_params


def main() -> None:
    """Run what is out of date.

    Raises:
        InputError: if stages failed; it lists them.
        SystemExit: 128 plus the signal that ended all.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", default="auto")
    parser.add_argument("--cluster", type=Path)
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("stages", nargs="*")
    given = parser.parse_args()
    params = load_params(Path("params.yaml"))
    try:
        if given.cluster:
            outcome = _on_cluster(params, given.cluster, given.stages, given.wait)
        else:
            outcome = _here(params, given.jobs, given.stages, given.wait)
    except DvcException as problem:
        raise InputError(" ".join(str(problem).split())) from None
    if outcome.stopped_by:
        sys.exit(128 + outcome.stopped_by)
    if outcome.failed:
        raise InputError(_failures(outcome))


def _here(params: Params, jobs: str, stages: Sequence[str], wait: bool) -> Outcome:
    slots = slots_of(jobs, params)
    jobs = "1 job" if len(slots) == 1 else f"{len(slots)} jobs"
    print(f"{jobs} at a time, each with {slots[0].says}", file=sys.stderr)
    with (
        Pipeline(Path(), stages, wait) as pipeline,
        View(pipeline.stages, len(slots), sys.stderr) as view,
    ):
        return Schedule(pipeline, [Machine(pipeline, slots, Memory())], view).run()


def _on_cluster(params: Params, file: Path, stages: Sequence[str], wait: bool) -> Outcome:
    from segbench.cluster.settings import load_cluster

    settings = load_cluster(file)
    try:
        from segbench.cluster.workers import Workers
    except ModuleNotFoundError as missing:
        raise InputError(
            f"--cluster needs {missing.name}: pip install -e .[cluster], on all machines"
        ) from None
    with ExitStack() as stack:
        exchange = Exchange(remote=not settings.shared)
        pipeline = stack.enter_context(Pipeline(Path(), stages, wait, exchange))
        view = stack.enter_context(View(pipeline.stages, settings.workers or 1, sys.stderr))
        if not settings.shared:
            pipeline.remote  # noqa: B018 is checked first of all
        workers = stack.enter_context(Workers(Path(), pipeline, settings, params, view))
        here = Machine(pipeline, [Slot({}, "")], Memory(), beside=False, before=_replay)
        places: list[Place] = [workers, here]
        try:
            return Schedule(pipeline, places, view).run()
        finally:
            _replay()


def _replay() -> None:
    """Let MLflow have what came from other machines."""
    command = [sys.executable, "-m", "segbench", "sync"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)


def _failures(outcome: Outcome) -> str:
    """What failed and why, a line each."""
    lines = [f"{name}: {why}" for name, why in outcome.failed.items()]
    if left := outcome.left_out:
        few = ", ".join(left[:3]) + (" ..." if len(left) > 3 else "")
        lines.append(f"not run: {few} ({len(left)} stage{'s' if len(left) > 1 else ''})")
    number = len(outcome.failed)
    return f"{number} stage{'s' if number > 1 else ''} failed:\n  " + "\n  ".join(lines)


if __name__ == "__main__":
    with exit_statuses():
        main()
