"""Whether a dataset's source still holds the files that were read: by their names, sizes and times.

DVC follows what lies in the workspace, and a source mostly lies elsewhere. What it held when it was
read is noted in each workspace, outside DVC: in another clone the same files have other times. If
it changed, the stage download runs again; where it then makes the same, nothing else does.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segbench.files import atomic_file
from segbench.params import Params
from segbench.params.datasets import Dataset
from segbench.recovery.lock_file import locked_stage, state_folder

Files = dict[str, tuple[int, int]]
"""Size in bytes and time of the last change in ns, by name."""


KEPT = 20
"""Notes of so many datasets, since another branch of git may be of another one."""


@dataclass(frozen=True)
class Source:
    """The files of a dataset's source, and those that were read.

    Attributes:
        root: of the workspace.
        dataset: the section of its params.
        path: of the source.
        files: there are now; None where none can be watched.
        made: md5 of what dvc.lock says was made by these params, here or in another clone; empty if
            nothing was.
        read: the files that this was made of, if it was made here.
        external: name of the external set that it is; empty for the dataset of the training.
    """

    root: Path
    dataset: Dataset
    path: Path
    files: Files | None
    made: str
    read: Files | None
    external: str = ""

    @property
    def stage(self) -> str:
        """That reads it."""
        return _stage_and_key(self.external)[0]

    @property
    def is_new(self) -> bool:
        """Whether it must be read, though DVC may find that nothing changed.

        Also before the first time: a cache that several workspaces share may hold what another one
        read by the same params, from files that have changed since.
        """
        if self.files is None or self.files == self.read:
            return False
        return self.read is not None or not self.made

    @property
    def said(self) -> str:
        """What a person should know, in a line; empty if nothing."""
        source = f"{_stage_and_key(self.external)[1]}.source"
        if self.files is None:
            known = self.read is not None
            gone = f"{source}: nothing at {self.path}, so that no change of it is noticed"
            return gone if known else ""
        if self.read is None:
            return (
                f"{source}: {len(self.files)} files are watched from now on; whether another "
                f"clone read the same is not known ('segbench repro -f -s {self.stage}' reads them)"
                if self.made
                else ""
            )
        both = self.files.keys() & self.read.keys()
        changes = {
            "changed": sorted(name for name in both if self.files[name] != self.read[name]),
            "added": sorted(self.files.keys() - both),
            "removed": sorted(self.read.keys() - both),
        }
        facts = [
            f"{_count(names)} {what} ({_some(names)})" for what, names in changes.items() if names
        ]
        return f"{source}: {', '.join(facts)} since it was read" if facts else ""

    def note(self) -> None:
        """Note that the dataset in dvc.lock was made of these files."""
        made = _made(self.root, self.dataset, self.external)
        place = _place(self.root, self.dataset, made, self.external)
        if self.files is None or self.files == _noted(place):
            return
        with atomic_file(place) as partial:
            partial.write_text(json.dumps(self.files))
        notes = sorted(place.parent.glob("source-*.json"), key=os.path.getmtime)
        for old in notes[:-KEPT]:
            old.unlink()


def look_at_sources(root: Path, params: Params) -> list[Source]:
    """List the files that the dataset and the external sets are read from; none of them is opened.

    Args:
        root: of the workspace.
        params: of it.
    """
    sets = params.comparison.external.items()
    return [
        look_at_source(root, params.dataset),
        *(look_at_source(root, section, name) for name, section in sets),
    ]


def look_at_source(root: Path, dataset: Dataset, external: str = "") -> Source:
    """List the files that a dataset is read from; none of them is opened.

    Args:
        root: of the workspace.
        dataset: the section of its params.
        external: name of the external set that it is; empty for the dataset of the training.
    """
    source = getattr(dataset, "source", None)
    if source is None or not getattr(dataset, "watch", False) or not (root / ".dvc").is_dir():
        return Source(root, dataset, root, None, "", None, external)
    path = root / Path(source).expanduser()
    files = dict(_listing(path)) if path.exists() else None
    if files is not None and path.is_dir():
        for table in _tables(dataset.model_dump()):
            if (path / table).is_file():
                files.setdefault(table, _size_and_time(os.stat(path / table)))
    made = _made(root, dataset, external)
    read = _noted(_place(root, dataset, made, external))
    return Source(root, dataset, path, files, made, read, external)


def _stage_and_key(external: str) -> tuple[str, str]:
    """The stage that reads a dataset, and its key in params.yaml."""
    if external:
        return f"download_external@{external}", f"comparison.external.{external}"
    return "download", "dataset"


def _tables(section: dict[str, Any]) -> Iterator[str]:
    """Paths of tables that a section names, at any depth."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _tables(value)
        elif key == "table":
            yield value


def _place(root: Path, dataset: Dataset, made: str, external: str) -> Path:
    text = f"{dataset.model_dump_json()} {made}{external}"
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return state_folder(root) / f"source-{key}.json"


def _made(root: Path, dataset: Dataset, external: str) -> str:
    """md5 of what dvc.lock says was made by these params; empty if nothing was."""
    adapter: TypeAdapter[Dataset] = TypeAdapter(Dataset)
    name, key = _stage_and_key(external)
    try:
        stage = YAML(typ="safe", pure=True).load(locked_stage(root, name)) or {}
        is_of_these = adapter.validate_python(stage["params"]["params.yaml"][key]) == dataset
        return str(stage["outs"][0]["md5"]) if is_of_these else ""
    except (YAMLError, KeyError, IndexError, TypeError, ValidationError):
        return ""


def _listing(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Size and time of a file, or of all below a folder but hidden ones; links are followed."""
    if not path.is_dir():
        yield path.name, _size_and_time(path.stat())
        return
    waiting, seen = [""], set[tuple[int, int]]()
    while waiting:
        folder = waiting.pop()
        status = os.stat(path / folder)
        if (status.st_dev, status.st_ino) in seen:
            continue  # a link that leads back
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(path / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{folder}{entry.name}"
                if entry.is_dir():
                    waiting.append(f"{name}/")
                    continue
                try:
                    yield name, _size_and_time(entry.stat())
                except OSError:  # a link to nothing
                    yield name, (0, 0)


def _size_and_time(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _noted(place: Path) -> Files | None:
    try:
        noted = json.loads(place.read_text())
        return {name: (size, time) for name, (size, time) in noted.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _count(names: list[str]) -> str:
    return f"{len(names)} file{'s' if len(names) > 1 else ''}"


def _some(names: list[str]) -> str:
    return f"{names[0]}{' ...' if len(names) > 1 else ''}"
