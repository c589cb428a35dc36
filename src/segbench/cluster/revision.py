"""The workspace as it is now, uncommitted changes included, packed for clones that have nothing."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from segbench.errors import InputError


@dataclass(frozen=True)
class Revision:
    """A state of a workspace.

    Attributes:
        commit: id of the last commit.
        branch: its name; HEAD: none.
        tree: id of the tree of all files that git does not ignore, as they are.
        pack: commit and tree with all they hold, without the commit's history, as git packs them.
    """

    commit: str
    branch: str
    tree: str
    pack: bytes


def pack_workspace(root: Path) -> Revision:
    """Pack a workspace; its index and its files stay as they are.

    Raises:
        InputError: without a commit, or if git fails.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD").decode().strip()
    branch = _git(root, "rev-parse", "--abbrev-ref", "HEAD").decode().strip()
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        _git(root, "read-tree", "HEAD", index=index)
        _git(root, "add", "--all", index=index)
        tree = _git(root, "write-tree", index=index).decode().strip()
    listed = _git(root, "rev-list", "--objects", "--no-walk=unsorted", commit, tree)
    ids = b"".join(line.split(b" ")[0] + b"\n" for line in listed.splitlines())
    return Revision(commit, branch, tree, _git(root, "pack-objects", "--stdout", "-q", given=ids))


def _git(root: Path, *arguments: str, given: bytes = b"", index: Path | None = None) -> bytes:
    variables = {} if index is None else {"GIT_INDEX_FILE": str(index)}
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(
        command, input=given, env={**own, **variables}, capture_output=True, check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
        raise InputError(
            f"git {arguments[0]}: {said}; workers get the last commit and what was changed since, "
            "so the workspace must be a repository with a commit"
        )
    return done.stdout
