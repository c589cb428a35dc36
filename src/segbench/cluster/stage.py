"""The process of a stage in a worker's clone: python -m segbench.cluster.stage

On stdin a line of JSON, what to run; then lines without content, as long as the worker lives.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from dvc.exceptions import DvcException

from segbench.errors import exit_statuses, without_secrets
from segbench.files import PACKAGE, atomic_file
from segbench.jobs.exchange import Exchange
from segbench.jobs.pipeline import Pipeline
from segbench.jobs.process import Process

FAILED = 1
MOMENTS_S = 20.0
"""A stage that was told to stop may still write a checkpoint."""


def main(job: Mapping[str, Any]) -> None:
    """Run a stage and let other clones have what it made; a result file says what came out.

    Raises:
        SystemExit: without a result, if it could not be run here.
    """
    here = Path.cwd()
    _check(here, job["commit"])
    exchange = Exchange(job["remote"])
    with Pipeline(here, [job["stage"]], exchange=exchange, only=True) as pipeline:
        pipeline.fetch_inputs(job["stage"], job["lent"])
        if pipeline.begin(job["stage"]) and (why := _run(pipeline, job)):
            return _write(job, {"failed": why})
        return _write(job, {"entry": pipeline.share(job["stage"])})


def _check(here: Path, commit: str) -> None:
    """Exit unless the code that runs is the driver's."""
    if not PACKAGE.is_relative_to(here):
        sys.exit(f"error: this runs the segbench in {PACKAGE}, not that of its clone {here}")
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    if (own := done.stdout.strip()) != commit:
        sys.exit(f"error: {here} is at commit {own}, not at {commit}")


def _run(pipeline: Pipeline, job: Mapping[str, Any]) -> str:
    """Run the stage; why it failed."""
    ended, stopped = threading.Event(), list[int]()
    process = Process(pipeline.command(job["stage"]), {}, _say, ended.set)

    def stop(number: int, _: FrameType | None = None) -> None:
        stopped.append(number)
        process.send(signal.SIGINT)
        threading.Timer(MOMENTS_S, process.send, [signal.SIGKILL]).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    _watch(job["silent_s"])
    while not ended.wait(0.2):
        pass
    if stopped:
        pipeline.give_up(job["stage"])
        os._exit(128 + stopped[0])  # whatever timer is left
    if process.status:
        pipeline.give_up(job["stage"])
        return process.why
    failed = pipeline.end({job["stage"]: None})
    return failed.get(job["stage"], "")


def _say(line: str) -> None:
    print(line, flush=True)


def _watch(silent_s: float) -> None:
    """Stop when the worker says nothing any more: the stage then starts again elsewhere."""

    def watch() -> None:
        while select.select([0], [], [], silent_s)[0] and os.read(0, 1 << 16):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _write(job: Mapping[str, Any], result: Mapping[str, str]) -> None:
    with atomic_file(Path(job["result"])) as partial:
        partial.write_text(json.dumps(result))


if __name__ == "__main__":
    with exit_statuses():
        try:
            # Not buffered: what follows is read by the watch.
            main(json.loads(b"".join(iter(lambda: os.read(0, 1), b"\n"))))
        except DvcException as problem:
            sys.exit(f"error: {without_secrets(' '.join(str(problem).split()))}")
