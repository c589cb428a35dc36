"""dvc.yaml names, for each stage, the modules that can change its numbers, and no others."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segbench.files import sha256_of_code
from segbench.training.identity import CODE
from support.imports import SOURCE, imported
from support.params import ROOT, STAGES

# What watches, checks or words, but changes no number; a change here must not retrain.
OBSERVERS = {
    "__init__.py",
    "__main__.py",  # is cli.py
    "cli.py",  # what people call
    "commands",  # what people call
    "doctor",  # only looks
    "errors.py",  # wording
    "files.py",  # names what was made
    "jobs",  # runs stages side by side
    "params",  # checks values that DVC itself follows
    "planning",  # foretells
    "progress.py",  # tells how far a loop is
    "recovery",  # mends what a kill left
    "recipes.py",  # runs all of it elsewhere
    "report/animation.py",  # draws
    "report/drawing.py",  # draws
    "report/links.py",  # where pictures are
    "report/predictions.py",  # draws
    "stage.py",  # parses paths
    "tracking",  # watches, writes down, replays
    "untrusted",  # refuses
    "watch.py",  # tells whether there is something new to read
    "workspace.py",  # runs DVC
}


def observes(file: Path) -> bool:
    return any(file.is_relative_to(SOURCE / name) for name in OBSERVERS)


def closure(path: Path) -> set[str]:
    """Files below src/segbench that a script needs, not counting observers and what they need."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        for file in imported(waiting.pop()):
            if file not in seen and not observes(file):
                seen.add(file)
                waiting.append(file)
    return {file.relative_to(SOURCE).as_posix() for file in seen}


@pytest.mark.parametrize("stage", list(STAGES))
def test_deps_are_the_imports(stage: str) -> None:
    script = f"stages/{stage}.py"
    assert f"python {script}" in STAGES[stage]["cmd"]
    deps = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))}
    assert script in deps
    needed = {f"src/segbench/{name}" for name in closure(ROOT / script)}
    covered = {file for file in needed if any(Path(file).is_relative_to(dep) for dep in deps)}
    assert needed - covered == set(), f"dvc.yaml: {stage} lacks these deps"
    for dep in deps - {script}:
        assert any(Path(file).is_relative_to(dep) for file in needed), f"{stage} needs no {dep}"


def test_training_never_sees_the_test_set() -> None:
    deps = STAGES["train"]["deps"]
    assert not any(dep == "data/arrays" or dep.endswith("/test") for dep in deps)


def test_scripts_hold_no_path_and_no_number() -> None:
    for script in (ROOT / "stages").glob("*.py"):
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.Constant) and node.value != ast.get_docstring(
                ast.parse(script.read_text()), clean=False
            ):
                assert isinstance(node.value, str | bool), f"{script.name}: {node.value}"
                assert "/" not in str(node.value), f"{script.name}: {node.value}"


def test_checkpoints_are_of_the_code_that_trains() -> None:
    """Its key hashes what the train stage needs; a list that lacks a file would resume its past."""
    covered = set(sha256_of_code(*CODE))
    assert closure(ROOT / "stages/train.py") - covered == set()


NOTE = """import json, os, sys
with open("argv.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""
HOSTILE = [
    *("x; touch PWN #", "$(touch PWN)", "`touch PWN`", "x' ; touch PWN ; '", 'x" ; touch PWN ; "'),
    *(
        "x\ntouch PWN\n",
        "x'\ntouch PWN\n'",
        "x\x0btouch PWN",
        "&& touch PWN",
        "> PWN",
        "x | tee PWN",
    ),
    "\\\ntouch PWN",
]


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        *(("train", "candidates"), ("train", "seeds")),
        *(("evaluate", "candidates"), ("evaluate", "seeds")),
        *(("download_external", "external"), ("evaluate_external", "external")),
    ],
)
def test_params_run_nothing_in_a_shell(name: str, axis: str, tmp_path: Path) -> None:
    """Also with a plain `dvc repro`, which checks no params: real DVC, by the cmd of dvc.yaml."""
    stage = {"matrix": STAGES[name]["matrix"], "cmd": STAGES[name]["cmd"]}
    comparison: dict[str, Any] = {"candidates": ["mine"], "folds": [0], "seeds": [1]}
    comparison["external"] = {"other": {"name": "folder"}}
    several = [*comparison[axis], *HOSTILE]
    comparison[axis] = dict.fromkeys(several, 1) if axis == "external" else several
    for path, tree in (
        ("dvc.yaml", {"stages": {name: stage}}),
        ("params.yaml", {"comparison": comparison}),
    ):
        (tmp_path / path).write_text(json.dumps(tree))  # is YAML, and exact for any key
    (tmp_path / "stages").mkdir()
    (tmp_path / f"stages/{name}.py").write_text(NOTE)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    command = [*dvc, "repro", "--keep-going"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not (tmp_path / "PWN").exists(), done.stderr
    calls = [json.loads(line) for line in (tmp_path / "argv.jsonl").read_text().splitlines()]
    flag = f"--{axis.removesuffix('s')}"
    arrived = [words[words.index(flag) + 1] for words in calls]
    assert arrived[0] in ("mine", "1", "other")
    assert set(arrived[1:]) <= set(HOSTILE)
    assert len(arrived) >= 1 + sum(len(text.splitlines()) == 1 for text in HOSTILE)
