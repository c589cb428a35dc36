"""Provenance: the code, data and machine behind a run."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

MADE = "SEGBENCH_MADE"
"""Variable of stages that run side by side: what was made for them, as `hashes` has it. dvc.lock
may be written while one starts, and lag behind what was made."""
PACKAGES = ("torch", "segmentation-models-pytorch", "timm", "lightning-fabric", "albumentations")


def tags() -> dict[str, str]:
    """Tags that identify git state, DVC stage and inputs, and machine."""
    found = {**git_tags(), **dvc_tags(), **machine_tags()}
    if "dvc.stage" in found:
        found |= {"mlflow.source.name": found["dvc.stage"], "mlflow.source.type": "PROJECT"}
    return found


def git_tags() -> dict[str, str]:
    """Commit, branch, and whether tracked files are modified; empty outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {}
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    branch = _git("rev-parse", "--abbrev-ref", "HEAD")
    return {
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": branch,
        "git.dirty": str(dirty).lower(),
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def dvc_tags() -> dict[str, str]:
    """The current DVC stage, and the hashes of its data by path, as far as they exist."""
    root, stage = os.environ.get("DVC_ROOT"), os.environ.get("DVC_STAGE")
    if not root or not stage:
        return {}
    if MADE in os.environ:
        return {"dvc.stage": stage, **json.loads(os.environ[MADE])}
    lock = Path(root) / "dvc.lock"
    # Every value as text, and by the parser in C: the file grows with the number of runs.
    stages = yaml.load(lock.read_text(), yaml.CBaseLoader)["stages"] if lock.exists() else {}
    return {"dvc.stage": stage, **hashes([stages.get(name, {}) for name in makers(stage)])}


def hashes(stages: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Hashes of what stages made, as tags.

    Args:
        stages: as dvc.lock has them.
    """
    found = {}
    for stage in stages:
        for out in stage.get("outs", []):
            if "md5" in out and not out["path"].endswith("record"):
                found[f"dvc.md5.{out['path']}"] = out["md5"]
    return found


def makers(stage: str) -> Sequence[str]:
    """Stages whose outputs say what a stage worked on."""
    kind, _, item = stage.partition("@")
    common = ["download", "split", "augment"]
    if kind == "evaluate":
        return [*common, f"train@{item}"]
    if kind == "evaluate_external":
        run, _, external = item.rpartition("-")
        return [f"train@{run}", *(f"{one}_external@{external}" for one in ("download", "augment"))]
    return common


def versions() -> dict[str, str]:
    """Versions of the libraries that can affect results."""
    return {name: version(name) for name in PACKAGES}


def machine_tags() -> dict[str, str]:
    """Versions of these libraries, and the processor."""
    found = {f"version.{name}": number for name, number in versions().items()}
    found["version.python"] = platform.python_version()
    found["machine.system"] = f"{platform.system()} {platform.machine()}"
    found["machine.cpu"] = f"{_cpu_model()}, {os.cpu_count()} logical cores"
    return found


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
