"""What clones of a workspace exchange: inputs and outputs of stages, and entries of the run cache.

By way of the DVC remote, or of one cache on a disk that all of them see. Objects go first and the
entry that names them last, so that whoever finds an entry finds all of it.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.cache import _can_hash, _get_cache_hash, _get_stage_hash
from dvc.stage.serialize import to_single_stage_lockfile

from segbench.files import atomic_file, sha256_of

READS = "reads"
"""Key of a stage's `meta` in dvc.yaml: paths that it reads and does not depend on."""
LEGACY = "md5-dos2unix"
"""DVC's older hashes: their folder is all of the remote, and holds the run cache too."""


@dataclass(frozen=True)
class Parcel:
    """What a clone needs to run a stage, besides the objects in the remote.

    Attributes:
        lock: a dvc.lock of the stages that it needs.
        files: of those, outputs that git holds: contents by path.
    """

    lock: str
    files: Mapping[str, bytes]


class Exchange:
    """With other clones.

    Args:
        remote: whether by the DVC remote; else they share the cache.
    """

    def __init__(self, remote: bool) -> None:
        self._remote = remote
        self._offered: set[str] = set()

    def parcel(self, repo: Repo, stage: Any, needs: Iterable[Any]) -> Parcel:
        """What another clone needs to run a stage; its inputs are then in the remote.

        Raises:
            DvcException: if the remote does not take them.
        """
        needs = list(needs)
        entries = {need.addressing: to_single_stage_lockfile(need) for need in needs}
        for need in needs:
            known = yaml.safe_dump(_plain(entries[need.addressing]))
            if self._remote and known not in self._offered:
                _push(repo, need.get_used_objs(push=True))
                self._offered.add(known)
        lock = yaml.safe_dump({"schema": "2.0", "stages": _plain(entries)}, sort_keys=False)
        files = {
            dep.def_path: Path(dep.fs_path).read_bytes()
            for dep in stage.deps
            if (out := _out_of(dep, needs)) and not out.use_cache
        }
        return Parcel(lock, files)

    def fetch_inputs(self, repo: Repo, stage: Any) -> None:
        """Bring what other stages made for this one, as dvc.lock has it, into the workspace.

        Raises:
            DvcException: if it cannot be had.
        """
        makers = [other for other in repo.index.stages if other != stage]
        wanted = [
            dep.fs_path for dep in stage.deps if (out := _out_of(dep, makers)) and out.use_cache
        ]
        also = (stage.meta or {}).get(READS, [])
        wanted += [str(Path(repo.root_dir, path)) for path in also]
        if not wanted:  # all files then
            return
        if self._remote:
            repo.fetch(targets=wanted)
        repo.checkout(targets=wanted, force=True)

    def lend(self, repo: Repo, files: Mapping[str, str]) -> None:
        """Put files that no stage makes, such as pretrained weights, into the remote.

        Args:
            repo: of the workspace.
            files: their sha256 by path.
        """
        for path, sha256 in files.items() if self._remote else ():
            odb, place = _lent(repo, sha256)
            if not odb.fs.exists(place):
                odb.fs.makedirs(odb.fs.parent(place), exist_ok=True)
                # Under its name only once it is whole.
                partial = f"{place}.{os.getpid()}"
                odb.fs.put_file(path, partial)
                odb.fs.move(partial, place)

    def borrow(self, repo: Repo, files: Mapping[str, str]) -> None:
        """Bring files that were lent, unless they are there; see `lend`."""
        for path, sha256 in files.items() if self._remote else ():
            own = Path(repo.root_dir, path)
            if own.exists() and sha256_of(own) == sha256:
                continue
            odb, place = _lent(repo, sha256)
            with atomic_file(own) as partial:
                odb.fs.get_file(place, str(partial))

    def share(self, repo: Repo, stage: Any) -> str:
        """Let other clones have the outputs of a stage; its entry in the run cache.

        Raises:
            DvcException: if the remote does not take them.
        """
        entry = to_single_stage_lockfile(stage)
        if self._remote:
            _push(repo, _cached(repo, stage, entry).get_used_objs())
            key, value = _get_stage_hash(stage), _get_cache_hash(entry)
            path = Path(repo.stage_cache._get_cache_path(key, value))
            odb, folder = _runs(repo, key)
            odb.fs.makedirs(folder, exist_ok=True)
            odb.fs.put_file(str(path), odb.fs.join(folder, value))
        return yaml.safe_dump(_plain(entry), sort_keys=False)

    def bring(self, repo: Repo, stage: Any) -> bool:
        """Bring the outputs of a stage from the remote, if its run cache has what they are; whether
        it does. The stage's dependencies are known already."""
        if not self._remote or not _can_hash(stage):
            return False
        odb, folder = _runs(repo, _get_stage_hash(stage))
        entries = sorted(odb.fs.find(folder)) if odb.fs.exists(folder) else []
        return any(self.take(repo, stage, odb.fs.cat_file(one).decode()) for one in entries)

    def take(self, repo: Repo, stage: Any, entry: str) -> bool:
        """Bring the outputs of a stage that another clone has run into the workspace; whether they
        could be had.

        Raises:
            DvcException: if it ran with other inputs.
        """
        made = yaml.safe_load(entry)
        own = _plain(to_single_stage_lockfile(stage))
        for part in ("cmd", "deps", "params"):
            if made.get(part) != own.get(part):
                raise DvcException(
                    f"it ran elsewhere with other {part} than here, where a file changed "
                    "meanwhile; run the same command again"
                )
        cached = _cached(repo, stage, made)
        if self._remote:
            for objects in cached.get_used_objs().values():
                repo.cloud.pull(objects)
        if there := bool(cached.outs_cached()):
            cached.checkout(force=True)
        return there


def _plain(tree: Any) -> Any:
    """Without DVC's own types of mappings, which YAML does not write."""
    if isinstance(tree, Mapping):
        return {key: _plain(value) for key, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _out_of(dep: Any, makers: Iterable[Any]) -> Any:
    """The output that a dependency is, or lies in; None if no stage makes it."""
    outs = (out for maker in makers for out in maker.outs)
    inside = (out for out in outs if f"{dep.fs_path}{os.sep}".startswith(f"{out.fs_path}{os.sep}"))
    return next(inside, None)


def _cached(repo: Repo, stage: Any, entry: Any) -> Any:
    """A stage whose outputs are all held by the cache, also those that git holds."""
    return repo.stage_cache._create_stage(entry, wdir=stage.wdir)


def _push(repo: Repo, objects: Mapping[Any, Any]) -> None:
    for those in objects.values():
        if failed := repo.cloud.push(those).failed:
            raise DvcException(f"the DVC remote does not take {len(failed)} objects; look at it")


def _lent(repo: Repo, sha256: str) -> tuple[Any, str]:
    """The remote, and where a file that was lent lies in it."""
    odb = repo.cloud.get_remote_odb(None, "push", hash_name=LEGACY)
    return odb, odb.fs.join(odb.path, "segbench", "lent", sha256)


def _runs(repo: Repo, key: str) -> tuple[Any, str]:
    """The remote's run cache, and its folder of a key."""
    odb = repo.cloud.get_remote_odb(None, "push --run-cache", hash_name=LEGACY)
    return odb, odb.fs.join(odb.path, "runs", key[:2], key)
