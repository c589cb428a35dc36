"""Records of another revision: of a commit, a branch, a tag or an experiment of DVC."""

import posixpath
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segbench.errors import InputError

RECORD = "run.json"
BESIDE = ("model.pt2", "model.onnx")
"""What MLflow gets of a run besides, from the folder that holds its record."""


def fetch_records(root: Path, revision: str, into: Path) -> list[str]:
    """Bring the records of a revision out of DVC's cache, or its remote, into a folder.

    Neither the workspace nor its dvc.lock is touched.

    Args:
        root: of the workspace.
        revision: whatever git or DVC knows by name.
        into: an empty folder, in which each record lies as in the workspace.

    Returns:
        Why a record could not be had, for each of those.

    Raises:
        InputError: if there is no such revision.
    """
    from dvc.exceptions import DvcException
    from dvc.scm import RevError, SCMError
    from dvc_data.index import DataIndexDirError

    missing = []
    try:
        with _files_of(root, revision) as files:
            known = _paths(files)
            for place in _records(known):
                try:
                    _fetch(files, place, known, into)
                except (OSError, DvcException) as problem:
                    reason = " ".join(str(problem).split())[:160]
                    missing.append(
                        f"{place}: {reason}; 'dvc fetch --all-commits' or its owner's "
                        "'dvc push' brings it"
                    )
    except (RevError, SCMError):
        raise InputError(
            f"--rev {revision}: neither git nor DVC knows it; 'git log' and 'dvc exp list' list "
            "what there is, 'git fetch' and 'dvc exp pull' bring what others have"
        ) from None
    except (DvcException, DataIndexDirError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise InputError(f"--rev {revision}: {reason}; 'dvc fetch' brings its data") from None
    return missing


@contextmanager
def _files_of(root: Path, revision: str) -> Iterator[Any]:
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(repo=str(root), rev=revision)
    try:
        yield files
    finally:
        files.close()


def _paths(files: Any) -> set[str]:
    """All that a revision has below data/."""
    files.repo  # noqa: B018  else `exists` finds nothing in a revision that there is not
    return set(files.find("data", detail=False)) if files.exists("data") else set()


def _records(known: Collection[str]) -> list[str]:
    """Folders of records; those that dvc.lock names and nobody has are left to fail."""
    return sorted(posixpath.dirname(path) for path in known if posixpath.basename(path) == RECORD)


def _fetch(files: Any, place: str, known: Collection[str], into: Path) -> None:
    target = into / place
    target.parent.mkdir(parents=True, exist_ok=True)
    files.get(place, str(target), recursive=True)
    for name in BESIDE:
        beside = posixpath.join(posixpath.dirname(place), name)
        if beside in known:
            files.get_file(beside, str(into / beside))
