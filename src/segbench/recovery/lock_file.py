"""dvc.lock, which DVC writes in place: a torn one is made of what is known."""

import re
import subprocess
from pathlib import Path

import yaml

from segbench.files import atomic_file
from segbench.recovery.notes import Notes

LOCK, HEAD = "dvc.lock", "schema: '2.0'\nstages:\n"
OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
CONFLICT = "<<<<<<< "
"""Of git; it is for a person to resolve."""
LOCK_IS_KEPT = "SEGBENCH_LOCK_IS_KEPT"
"""Variable of stages that run side by side: dvc.lock may be written while one starts; who writes it
keeps it."""


def keep_lock(root: Path) -> None:
    """Keep a copy of dvc.lock, which is whole while a stage runs.

    Args:
        root: of the workspace.
    """
    try:
        content = (root / LOCK).read_bytes()
        kept = state_folder(root) / LOCK
        if (root / ".dvc").is_dir() and not (kept.exists() and kept.read_bytes() == content):
            with atomic_file(kept) as partial:
                partial.write_bytes(content)
    except OSError:
        pass  # a copy for bad days; the stage itself says what is wrong with the disk


def state_folder(root: Path) -> Path:
    """Where segbench keeps what it knows of a workspace."""
    return root / ".dvc/tmp/segbench"


def mend_lock(root: Path, notes: Notes) -> bool:
    """Make a torn dvc.lock of its whole stages, its copy, and git's; whether DVC can read it."""
    path, kept = root / LOCK, state_folder(root) / LOCK
    if not path.exists():
        return True
    text = path.read_bytes().decode(errors="replace")
    copy = kept.read_text() if kept.exists() else ""
    if text == copy or CONFLICT in text:
        return True
    found, known = _blocks(text), _blocks(copy)
    ours = list(known)
    lost = len(found) < len(known) and list(found) == ours[: len(found)]
    if is_whole(text) and not (lost and text != _committed(root)):
        keep_lock(root)
        return True
    committed = _blocks(_committed(root))
    # What was being written may lack its end.
    for name in [*found][-1:]:
        if name in known or name in committed:
            del found[name]
    whole = {name: block for name, block in found.items() if _is_stage(block)}
    stages = {**committed, **known, **whole}
    notes.add(f"{LOCK} was torn; {len(stages)} stages are known again")
    if notes.dry:
        return is_whole(text)
    with atomic_file(path) as partial:
        body = "".join(f"  {name}:\n{block}" for name, block in stages.items())
        partial.write_text(f"{HEAD}{body}" if stages else "")
    if not stages:
        path.unlink()
    keep_lock(root)
    return True


def is_whole(text: str) -> bool:
    """Whether a dvc.lock was written to its end."""
    blocks = _blocks(text)
    return (
        text.startswith(HEAD)
        and len(HEAD) + sum(len(name) + 4 + len(block) for name, block in blocks.items())
        == len(text)
        and all(map(_is_stage, blocks.values()))
        and bool(blocks)
    )


def num_stages(text: str) -> int:
    """Stages in a dvc.lock."""
    return len(_blocks(text))


def locked_stage(root: Path, name: str) -> str:
    """The lines of a stage in dvc.lock, as YAML; empty if it is not there.

    Args:
        root: of the workspace.
        name: of the stage.
    """
    path = root / LOCK
    text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    return _blocks(text).get(name, "")


def _blocks(text: str) -> dict[str, str]:
    """The lines of each stage of a dvc.lock, without its name."""
    return dict(re.findall(r"^  (\S.*):\n((?:    .*\n)*)", text, re.MULTILINE))


def _is_stage(block: str) -> bool:
    """Whether the lines of a stage are all there."""
    try:
        stage = yaml.load(block, yaml.CBaseLoader)
        items = [*stage["deps"], *stage["outs"]]
        return bool(stage["cmd"]) and all(OBJECT.fullmatch(item["md5"]) for item in items)
    except (yaml.YAMLError, KeyError, TypeError):
        return False


def _committed(root: Path) -> str:
    """dvc.lock of the last commit; empty if there is none."""
    return git_file(root, LOCK).decode(errors="replace")


def git_file(root: Path, name: str) -> bytes:
    """A file of the last commit; empty if there is none."""
    command = ["git", "show", f"HEAD:./{name}"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""
