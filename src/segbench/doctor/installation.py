"""Python, segbench's own code, and its packages."""

import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from segbench.doctor.finding import FAIL, NOTE, OK, Finding

OLDEST, TOO_NEW = (3, 11, 4), (3, 14)
NAMED = (
    *("torch", "lightning-fabric", "timm", "segmentation-models-pytorch", "dvc", "mlflow"),
    "albumentations",
)
"""Packages whose versions a bug report needs."""
SET_UP = "'rm -r .venv', then any make target sets it up from requirements.lock"


def python() -> list[Finding]:
    """The interpreter and the system."""
    said = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    if OLDEST <= sys.version_info < TOO_NEW:
        return [Finding(OK, "python", said)]
    return [Finding(FAIL, "python", said, "segbench needs 3.11.4 to 3.13: make PYTHON=...")]


def code(root: Path) -> list[Finding]:
    """Which segbench runs: of this repository, at which commit."""
    from segbench.files import PACKAGE

    found = [_git(root, "rev-parse", "--short", "HEAD"), _git(root, "log", "-1", "--format=%cs")]
    said = " of ".join(filter(None, found)) or "unknown"
    try:
        said = f"{version('segbench')}, commit {said}"
    except PackageNotFoundError:
        said = f"not installed, commit {said}"
    if (root / "src/segbench").is_dir() and PACKAGE.resolve() != (root / "src/segbench").resolve():
        other = f"{said}; but this command is that of {PACKAGE.parents[1]}"
        return [Finding(NOTE, "segbench", other, f"activate the .venv here, or {SET_UP}")]
    return [Finding(OK, "segbench", said)]


def packages(root: Path) -> list[Finding]:
    """Installed packages against requirements.lock."""
    try:
        text = (root / "requirements.lock").read_text()
    except OSError as problem:
        said = f"requirements.lock cannot be read ({problem.strerror})"
        return [Finding(NOTE, "packages", said, "'git checkout requirements.lock'")]
    from packaging.requirements import Requirement

    wanted = {}
    for line in re.findall(r"^([\w.\[\]-]+==[^\\\n]*)", text, re.MULTILINE):
        entry = Requirement(line.strip())
        if entry.marker is None or entry.marker.evaluate({"extra": ""}):
            wanted[entry.name] = next(iter(entry.specifier)).version
    there = {name: _version(name) for name in wanted}
    missing = [name for name, number in there.items() if not number]
    # +cpu and the like name a build of the same source.
    others = [
        f"{name} {number} instead of {wanted[name]}"
        for name, number in there.items()
        if number and number.split("+")[0] != wanted[name].split("+")[0]
    ]
    findings = []
    shown = ", ".join(f"{name} {there.get(name) or _version(name) or 'MISSING'}" for name in NAMED)
    if missing:
        said = f"{len(missing)} of {len(wanted)} are missing ({_few(missing)})"
        findings.append(Finding(FAIL, "packages", said, SET_UP))
    if others:
        said = f"{len(others)} are not those of requirements.lock ({_few(others)})"
        findings.append(Finding(NOTE, "packages", said, f"digits may differ; {SET_UP}"))
    state = OK if wanted and not findings else NOTE
    told = "all as in requirements.lock" if state == OK else "versions"
    return [*findings, Finding(state, "packages", f"{told}: {shown}")]


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
