"""Provenance: the code, data and machine behind a run."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import yaml

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
    found = {"dvc.stage": stage}
    lock = Path(root) / "dvc.lock"
    # Every value as text, and by the parser in C: the file grows with the number of runs.
    stages = yaml.load(lock.read_text(), yaml.CBaseLoader)["stages"] if lock.exists() else {}
    made = ["download", "split", "augment"]
    name, _, item = stage.partition("@")
    if name == "evaluate":
        made.append(f"train@{item}")
    elif name == "evaluate_external":
        run, _, external = item.rpartition("-")
        made = [f"train@{run}", *(f"{one}_external@{external}" for one in ("download", "augment"))]
    for name in made:
        for out in stages.get(name, {}).get("outs", []):
            if "md5" in out and not out["path"].endswith("record"):
                found[f"dvc.md5.{out['path']}"] = out["md5"]
    return found


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
