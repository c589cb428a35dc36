"""How a stage begins and ends: from the command line to its function, and to an exit status."""

import argparse
import gc
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

from segbench.errors import exit_statuses, leave
from segbench.recovery.lock_file import LOCK_IS_KEPT, keep_lock
from segbench.recovery.trainings import forget_finished
from segbench.tracking import follower

DVC = {"dvc", "segbench.jobs", "segbench.cluster.stage"}
"""What runs stages, by a word of its command line."""
DVC_WATCH_S = 1.0
RUN_FLAGS = ("candidate", "fold", "seed")


def run(name: str, work: Callable[[], str]) -> None:
    """Do a stage's work and print, as the last line, what it made, if it says so.

    A user's mistake becomes one line on stderr and exit status 1, without a traceback.
    """
    with exit_statuses(f"{name}: "):
        if "DVC_STAGE" in os.environ:
            _watch_dvc(name)
        if said := work():
            print(f"{name}: {said}")


def _watch_dvc(name: str) -> None:
    """End the stage when the DVC that runs it is gone: the next would run it beside this one."""
    import psutil

    try:
        mine = psutil.Process().parents()
        dvc = next(one for one in mine if DVC & {Path(word).name for word in one.cmdline()[:3]})
    except (psutil.Error, StopIteration):
        return  # not called by that name, as where a program uses DVC as a library

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            while dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
                time.sleep(DVC_WATCH_S)
        with suppress(OSError):  # who listened may be gone too
            print(
                f"error: {name}: ended, since DVC was; run the same command again", file=sys.stderr
            )
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(function: str, tracked: bool = False) -> None:
    """Run the function of a stage with arguments from the command line.

    Its signature is the command line: each parameter is a required flag, since paths live in
    dvc.yaml; so is each field of a dataclass. A parameter whose type is Params or one of its
    sections is read from the file that `--params` names. The flags of a run, --candidate, --fold
    and --seed, name it in paths: RUN stands for <candidate>-fold<fold>-seed<seed>. So does
    --external: EXTERNAL stands for its value.

    Args:
        function: `package.module:function`; it returns what to print, which may be nothing.
        tracked: the stage writes a record. Its follower starts before the function's module is
            imported, so that MLflow and torch are imported side by side.
    """
    module, _, name = function.partition(":")
    if root := os.environ.get("DVC_ROOT"):
        if LOCK_IS_KEPT not in os.environ:
            keep_lock(Path(root))
        forget_finished(Path(root))
    gc.disable()  # what is imported stays: no garbage is looked for in it, now or later

    def work() -> str:
        # Of several processes one writes the record.
        if tracked and os.environ.get("LOCAL_RANK", "0") == "0":
            follower.start()
        try:
            target = getattr(import_module(module), name)
            gc.freeze()
            gc.enable()
            return target(**arguments(target))
        finally:
            gc.unfreeze()
            follower.end_unused()

    run(module.rpartition(".")[2], work)
    leave()


def arguments(target: Callable[..., str]) -> dict[str, object]:
    """The arguments of a stage's function, by name, from the command line."""
    from segbench.params import Params, load_params
    from segbench.params.compare import RunKey

    hints = get_type_hints(Params)
    sections = {name: hints[name] for name in Params.model_fields}
    kinds = get_type_hints(target)
    kinds.pop("return")
    chosen: dict[str, str | None] = {}  # parameter -> section, None for all of them
    grouped = {name: get_type_hints(kind) for name, kind in kinds.items() if is_dataclass(kind)}
    flags: dict[str, Callable[[str], object]] = {}
    for name, kind in kinds.items():
        section = next((key for key, type_ in sections.items() if type_ == kind), None)
        if section or kind is Params:
            chosen[name] = section
        else:
            flags |= grouped.get(name, {name: kind})
    description = (inspect.getdoc(target) or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=description)
    for name, kind in {"params": Path, **flags}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, required=True)
    for name in RUN_FLAGS:
        if name not in flags:
            parser.add_argument(f"--{name}")
    given = vars(parser.parse_args())
    params = load_params(given.pop("params"))
    candidate, fold, seed = (given[name] for name in RUN_FLAGS)
    stand_ins = {"EXTERNAL": given.get("external")}
    if candidate is not None:
        stand_ins["RUN"] = RunKey(candidate, fold, seed).name
    given |= {
        name: _filled_in(value, stand_ins)
        for name, value in given.items()
        if isinstance(value, Path)
    }
    for name in RUN_FLAGS:
        if name not in flags:
            del given[name]
    for name, fields in grouped.items():
        given[name] = kinds[name](**{field: given.pop(field) for field in fields})
    for name, section in chosen.items():
        given[name] = getattr(params, section) if section else params
    return given


def _filled_in(path: Path, stand_ins: Mapping[str, str | None]) -> Path:
    """A path with names in place of the words that stand for them, whatever ending these have."""
    parts = [Path(part) for part in path.parts]
    return Path(
        *(
            part.with_name(f"{name}{part.suffix}") if (name := stand_ins.get(part.stem)) else part
            for part in parts
        )
    )
