"""All checks, side by side, and their findings in order."""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from segbench.doctor import installation, machine, outside, repository
from segbench.doctor.finding import FAIL, NOTE, OK, Finding
from segbench.errors import InputError

DEADLINE_S = 30.0
"""A check that hangs, as on a dead network disk, is waited for no longer."""


@dataclass
class _Check:
    """A check that runs in a thread of its own."""

    name: str
    look: Callable[[], list[Finding]]
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A daemon, which the end of the process does not wait for.
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.findings = self.look()
        # What is examined may be broken in any way, and the other checks are still of use.
        except Exception as problem:
            reason = f"{type(problem).__name__}: {problem}"
            if isinstance(problem, ImportError):
                way_out = "the environment is broken: 'rm -r .venv', then 'make doctor'"
            else:
                way_out = "report this line"
            self.findings = [Finding(FAIL, self.name, f"cannot be told ({reason})", way_out)]


def examine(root: Path) -> Iterator[Finding]:
    """Look at everything that a run needs, in seconds, and change nothing.

    Args:
        root: of the workspace; anything in it may be missing or damaged.

    Yields:
        Findings, in the same order every time.
    """
    warnings.simplefilter("ignore")
    until = time.monotonic() + DEADLINE_S
    params = None
    try:
        from segbench.params import load_params

        params = load_params(root / "params.yaml")
        chosen = params.comparison
        runs = len(chosen.candidates) * len(chosen.folds) * len(chosen.seeds)
        said = f"valid: {params.dataset.name}, {len(chosen.candidates)} candidates, {runs} runs"
        stated = Finding(OK, "params", said)
    except InputError as mistake:
        stated = Finding(FAIL, "params", str(mistake).removeprefix(f"{root}/"))
    except Exception as problem:  # as in _Check
        said = f"cannot be read ({type(problem).__name__}: {problem})"
        stated = Finding(FAIL, "params", said, "the environment is broken: 'rm -r .venv'")
    looks: dict[str, Callable[[], list[Finding]]] = {
        "hardware": partial(machine.devices, params),  # first, since it imports torch
        "python": installation.python,
        "code": partial(installation.code, root),
        "packages": partial(installation.packages, root),
        "cores": machine.cores,
        "memory": machine.memory,
        "disk": partial(machine.disk, root, params),
        "git": partial(repository.git, root),
        "dvc.yaml": partial(repository.pipeline, root),
        "dvc.lock": partial(repository.lock_file, root),
        "locks": partial(repository.locks, root),
        "cache": partial(repository.cache, root),
        "mlflow": partial(outside.mlflow, root),
        "hubs": outside.hubs,
        "downloads": outside.downloads,
        "data": partial(outside.data, root, params),
        "weights": partial(outside.weights, root, params),
        "store": partial(outside.store, params),
    }
    started = {name: _Check(name, look) for name, look in looks.items()}
    for name in ("python", "code", "packages", "cores", "memory", "hardware"):
        yield from _result(started.pop(name), until)
    yield stated
    for check in started.values():
        yield from _result(check, until)


def _result(check: _Check, until: float) -> list[Finding]:
    check.thread.join(max(0.1, until - time.monotonic()))
    if check.thread.is_alive():
        said = f"no answer within {DEADLINE_S:.0f} s"
        return [Finding(NOTE, check.name, said, "a disk or network that it lies on may hang")]
    return check.findings


def leave(status: int) -> None:
    """End the process without waiting for checks that hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
