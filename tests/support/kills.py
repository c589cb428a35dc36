"""Pipelines that are killed, with whatever they started."""

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from support.params import ROOT, read_params, shrink
from support.workspace import Workspace

REPRO = [sys.executable, "-m", "segbench", "repro"]


def clone(folder: Path) -> Workspace:
    """A clone with the working tree's code, of tiny params."""
    workspace = Workspace(folder, ROOT)
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, workspace.path(name), dirs_exist_ok=True)
    tree = shrink(read_params())
    tree["checkpoints"].update(steps=1)
    workspace.change(tree)
    workspace.environment["OMP_NUM_THREADS"] = "1"
    return workspace


def family(process: psutil.Process) -> list[psutil.Process]:
    """All processes of its session, of whatever group and parent."""
    found = []
    for other in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getsid(other.pid) == process.pid:
                found.append(other)
    return found


def kill_all(process: psutil.Process, known: list[psutil.Process]) -> None:
    """Kill a session at once: those that are known already, and then whoever is left."""
    left = known
    while left:
        for member in left:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
        left = [one for one in family(process) if not ended(one)]


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
