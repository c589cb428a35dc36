"""DVC's pipeline, its stages begun and ended one by one: what `dvc repro` does around a command.

DVC runs one stage at a time, and a process of its own for each stage takes seconds to start, and
waits for the lock of all others. Here one process keeps the books for all of them.
"""

import logging
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import rwlock
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.run import get_executable, prepare_kwargs

from segbench.recovery.lock_file import LOCK_IS_KEPT, keep_lock

SHARING = "runs"
"""Key of a stage's `meta` in dvc.yaml, see `Stage.sharing`."""
BESIDE, ALONE = "beside", "alone"
WAIT = 20.0
"""So many times as long as it takes to write dvc.lock passes until it is written again: DVC reads
and writes all of it, which takes a second for 200 stages. Until then the run cache knows what a
stage made, so that a process that is killed loses nothing."""
QUIET = {
    "dvc": logging.WARNING,  # else it says each time that it writes dvc.lock
    "dvc.progress": logging.CRITICAL,
    "dvc_data.callbacks": logging.CRITICAL,
}
"""Levels of DVC's loggers, by which it also decides whether to show a bar: on a terminal that would
tear apart what is shown of all stages."""


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline.

    Attributes:
        name: with what follows its @, if it is repeated.
        needs: names of the stages whose outputs it reads.
        sharing: `BESIDE`: in a slot beside others; `ALONE`: only while nothing else runs; "": with
            all cores, beside others.
    """

    name: str
    needs: frozenset[str]
    sharing: str

    @property
    def kind(self) -> str:
        """Its name in dvc.yaml."""
        return self.name.partition("@")[0]

    @property
    def is_alone(self) -> bool:
        """Whether nothing else may run meanwhile."""
        return self.sharing == ALONE

    def fits_beside(self, running: Collection["Stage"]) -> bool:
        """Whether it may start while others run."""
        return not running or not any(stage.is_alone for stage in (self, *running))


def describe(step: Any, needs: Iterable[Any]) -> Stage:
    """A stage of DVC's, with those of DVC's that it needs."""
    sharing = str((step.meta or {}).get(SHARING, ""))
    return Stage(step.addressing, frozenset(need.addressing for need in needs), sharing)


@dataclass(frozen=True)
class Command:
    """What a stage runs.

    Attributes:
        arguments: of the process, a shell that reads the command as DVC has it.
        folder: where.
        environment: its variables, without those of a slot.
    """

    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]


class Pipeline:
    """The stages of a workspace, open in one thread; closed, it holds no lock.

    Args:
        root: of the workspace.
        targets: stages, with those they need; empty: all.
        wait: for another DVC that holds the lock.
    """

    def __init__(self, root: Path, targets: Sequence[str] = (), wait: bool = False) -> None:
        for logger, level in QUIET.items():
            logging.getLogger(logger).setLevel(level)
        self._repo = Repo(str(root), _wait_for_lock=wait)
        with self._repo.lock:
            graph = get_active_graph(self._repo.index.graph)
            chosen = collect_stages(self._repo, targets or ["dvc.yaml"])
            steps = plan_repro(graph, chosen)
        self._stages: dict[str, Any] = {step.addressing: step for step in steps}
        self._held: dict[str, ExitStack] = {}
        self._noted: list[Any] = []
        self._write_from = 0.0
        self._needs = {step.addressing: list(graph.successors(step)) for step in steps}
        self.stages = [describe(step, self._needs[name]) for name, step in self._stages.items()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self._held]:
            self.give_up(name)
        with self._repo.lock:
            self._write_lock_file()
        self._repo.close()

    def begin(self, name: str) -> Command | None:
        """Make a stage ready to run; None if it need not, as nothing changed or the run cache had
        its outputs.

        Raises:
            DvcException: if a dependency is missing, or another DVC holds the lock.
        """
        stage, repo = self._stages[name], self._repo
        with repo.lock:
            if not stage.changed(False, self._needs[name]):
                return None
            stage.remove_outs(ignore_remove=False, force=False)
            try:
                repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                stage.save_deps()
            else:
                self._keep(stage)
                self._note([stage])
                return None
            self._hold(name)
        options = prepare_kwargs(stage)
        lines = stage.cmd if isinstance(stage.cmd, list) else stage.cmd.splitlines()
        shell = get_executable()
        environment = {**options["env"], LOCK_IS_KEPT: "1"}
        return Command((shell, "-c", " && ".join(lines)), options["cwd"], environment)

    def end(self, names: Iterable[str]) -> dict[str, str]:
        """Take the outputs of stages whose commands succeeded, and note them in dvc.lock.

        Returns:
            Why, for each stage whose outputs cannot be taken.
        """
        failed, taken = {}, []
        with self._repo.lock:
            for name in names:
                self._held.pop(name).close()
                stage = self._stages[name]
                try:
                    self._keep(stage)
                except DvcException as error:
                    failed[name] = str(error)
                else:
                    taken.append(stage)
            self._note(taken)
        return failed

    def give_up(self, name: str) -> None:
        """Let go of a stage whose command failed."""
        with self._repo.lock:
            self._held.pop(name).close()

    def _hold(self, name: str) -> None:
        """Forbid other DVC processes what a stage reads and writes."""
        stage, repo, held = self._stages[name], self._repo, ExitStack()
        reads, writes = ([part.fs_path for part in parts] for parts in (stage.deps, stage.outs))
        hard = repo.config["core"].get("hardlink_lock", False)
        command = " ".join(sys.argv)  # as DVC has it: by this the lock's process is known again
        held.enter_context(rwlock(repo.tmp_dir, repo.fs, command, reads, writes, hard))
        self._held[name] = held

    @staticmethod
    def _keep(stage: Any) -> None:
        # With the run cache: DVC itself leaves it out for a stage with an output that git holds,
        # though it can restore one.
        stage.save()
        stage.commit()

    def _note(self, stages: list[Any]) -> None:
        self._noted += stages
        began = time.monotonic()
        if began >= self._write_from:
            self._write_lock_file()
            now = time.monotonic()
            self._write_from = now + WAIT * (now - began)

    def _write_lock_file(self) -> None:
        if self._noted:
            self._noted[0].dvcfile.dump_stages(self._noted, update_pipeline=False)
            keep_lock(Path(self._repo.root_dir))
        self._noted = []
