"""Which files of a workspace its stages read, as Python opens them."""

import json
import shlex
from pathlib import Path
from typing import Any

from support.workspace import Workspace

HOOK = """
import os, sys
if sys.orig_argv[1:2] and sys.orig_argv[1].startswith("stages/"):
    import json
    seen = {FOLDER}
    def look(event, given):
        if event != "open" or not isinstance(given[0], str):
            return
        path = os.path.relpath(given[0])
        writes = given[2] & (os.O_WRONLY | os.O_RDWR)
        if path in seen or writes or not path.startswith(("data/", "reports/")):
            return
        seen.add(path)
        with open(os.path.join(FOLDER, str(os.getpid())), "a") as file:
            file.write(json.dumps([sys.orig_argv[1:], path]) + "\\n")
    sys.addaudithook(look)
"""


def watch(workspace: Workspace) -> Path:
    """Let each stage that runs in a workspace from now on note what it reads; the notes' folder.

    Libraries that open files by themselves, such as that of safetensors, are not seen.
    """
    notes = workspace.folder.with_name("notes")
    notes.mkdir()
    hook = workspace.folder.with_name("hook")
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(f"FOLDER = {str(notes)!r}\n{HOOK}")
    workspace.environment["PYTHONPATH"] += f":{hook}"
    return notes


def opened(notes: Path) -> dict[tuple[str, ...], set[str]]:
    """The paths that stages read, by their commands without the interpreter."""
    found: dict[tuple[str, ...], set[str]] = {}
    for note in notes.iterdir():
        for command, path in map(json.loads, note.read_text().splitlines()):
            found.setdefault(tuple(command), set()).add(path)
    return found


def unnamed(stage: Any, paths: set[str], root: Path) -> list[str]:
    """Those of the paths which dvc.yaml does not say that a stage (DVC's) reads or writes."""
    named = [Path(one.fs_path).relative_to(root) for one in (*stage.deps, *stage.outs)]
    named += [Path(one) for one in (stage.meta or {}).get("reads", [])]
    return sorted(
        path
        for path in paths
        if (root / path).is_file() and not any(Path(path).is_relative_to(one) for one in named)
    )


def command_of(stage: Any) -> tuple[str, ...]:
    """Of a stage of DVC's, without the interpreter."""
    return tuple(shlex.split(stage.cmd)[1:])
