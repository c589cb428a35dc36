"""DVC's pipeline, its stages begun and ended one by one: what `dvc repro` does around a command.

DVC runs one stage at a time, and a process of its own for each stage takes seconds to start, and
waits for the lock of all others. Here one process keeps the books for all of them.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import rwlock
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.run import get_executable, prepare_kwargs
from dvc.stage.serialize import to_single_stage_lockfile

from segbench.errors import InputError
from segbench.jobs.exchange import Exchange, Parcel
from segbench.recovery.lock_file import LOCK_IS_KEPT, keep_lock
from segbench.tracking.provenance import MADE, hashes, makers

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
        """Whether nothing else may run on the same machine meanwhile."""
        return self.sharing == ALONE

    @property
    def is_beside(self) -> bool:
        """Whether it runs in a slot, beside others."""
        return self.sharing == BESIDE

    @property
    def is_of_all(self) -> bool:
        """Whether it makes or checks what all runs are about: none begins once it has failed."""
        return not self.sharing

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
        exchange: with other clones of the workspace, which run stages too; None: there are none.
        only: the targets without those they need.

    Attributes:
        keeps_waiting: asked every few seconds while another DVC has the lock that a stage needs to
            begin or to end: whether to wait on.
    """

    def __init__(
        self,
        root: Path,
        targets: Sequence[str] = (),
        wait: bool = False,
        exchange: Exchange | None = None,
        only: bool = False,
    ) -> None:
        for logger, level in QUIET.items():
            logging.getLogger(logger).setLevel(level)
        self._repo = Repo(str(root), _wait_for_lock=wait)
        self._exchange = exchange
        self.keeps_waiting: Callable[[], bool] = lambda: False
        with self._repo.lock:
            graph = get_active_graph(self._repo.index.graph)
            chosen = collect_stages(self._repo, targets or ["dvc.yaml"])
            steps = chosen if only else plan_repro(graph, chosen)
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
        with suppress(LockError), self._locked():  # what it lacks then, the run cache has
            self._write_lock_file()
        self._repo.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold DVC's lock, which another DVC may have for long, as while it pushes."""
        while True:
            try:
                self._repo.lock.lock()  # tries for 3 seconds
                break
            except LockError:
                if not self.keeps_waiting():
                    raise
        try:
            yield
        finally:
            self._repo.lock.unlock()

    def begin(self, name: str) -> bool:
        """Make a stage ready to run; whether it must, since something changed and the run cache
        does not have its outputs.

        Raises:
            DvcException: if a dependency is missing, or another DVC holds the lock.
        """
        stage, repo = self._stages[name], self._repo
        with self._locked():
            if not stage.changed(False, self._needs[name]):
                return False
            stage.remove_outs(ignore_remove=False, force=False)
            try:
                repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                stage.save_deps()
                if not (self._exchange and self._exchange.bring(repo, stage)):
                    self._hold(name)
                    return True
            self._keep(stage)
            self._note([stage])
            return False

    def command(self, name: str) -> Command:
        """What a stage that has begun runs."""
        stage = self._stages[name]
        options = prepare_kwargs(stage)
        lines = stage.cmd if isinstance(stage.cmd, list) else stage.cmd.splitlines()
        shell = get_executable()
        environment = {MADE: self.made_for(name), **options["env"], LOCK_IS_KEPT: "1"}
        return Command((shell, "-c", " && ".join(lines)), options["cwd"], environment)

    def made_for(self, name: str) -> str:
        """The value of `MADE` for a stage that has begun; one that was set already stays."""
        steps = {step.addressing: step for step in self._repo.index.stages} | self._stages
        known = [steps[maker] for maker in makers(name) if maker in steps]
        return json.dumps(hashes(map(to_single_stage_lockfile, known)))

    @property
    def cache(self) -> str:
        """The folder of DVC's cache."""
        return str(self._repo.cache.local.path).removesuffix("/files/md5")

    @property
    def remote(self) -> tuple[str, str]:
        """Name and address of DVC's default remote.

        Raises:
            InputError: if there is none.
        """
        config = self._repo.config
        if not (name := config["core"].get("remote")):
            raise InputError(
                "no DVC remote, by which machines exchange data: 'dvc remote add -d NAME URL', or "
                "set shared: true in cluster.yaml if all of them see this folder"
            )
        return name, config["remote"][name]["url"]

    def parcel(self, name: str, lent: Mapping[str, str]) -> Parcel:
        """What another clone needs, to run a stage that has begun here.

        Args:
            name: of the stage.
            lent: as for `fetch_inputs`.

        Raises:
            DvcException: if the remote does not take its inputs.
        """
        assert self._exchange
        with self._locked():
            self._exchange.lend(self._repo, lent)
            return self._exchange.parcel(self._repo, self._stages[name], self._needs[name])

    def fetch_inputs(self, name: str, lent: Mapping[str, str]) -> None:
        """Bring the inputs of a stage, as dvc.lock has them, into this clone.

        Args:
            name: of the stage.
            lent: sha256 of files that it needs and that no stage makes, by path.

        Raises:
            DvcException: if they cannot be had.
        """
        assert self._exchange
        self._exchange.fetch_inputs(self._repo, self._stages[name])
        self._exchange.borrow(self._repo, lent)

    def share(self, name: str) -> str:
        """Let other clones have the outputs of a stage that has ended; its entry in the run cache.

        Raises:
            DvcException: if the remote does not take them.
        """
        assert self._exchange
        with self._locked():
            return self._exchange.share(self._repo, self._stages[name])

    def end(self, made: Mapping[str, str | None]) -> dict[str, str]:
        """Take the outputs of stages whose commands succeeded, and note them in dvc.lock.

        Args:
            made: for each of them, what `share` returned where it ran; None: it ran here.

        Returns:
            Why, for each stage whose outputs cannot be taken.
        """
        try:
            with self._locked():
                return self._end(made)
        except LockError as error:
            for name in made:
                self.give_up(name)
            return dict.fromkeys(made, str(error))

    def _end(self, made: Mapping[str, str | None]) -> dict[str, str]:
        failed, taken = {}, []
        for name, entry in made.items():
            self.give_up(name)
            stage = self._stages[name]
            try:
                if entry is not None:
                    self._take(stage, entry)
                self._keep(stage)
            except DvcException as error:
                failed[name] = str(error)
            else:
                taken.append(stage)
        self._note(taken)
        return failed

    def _take(self, stage: Any, entry: str) -> None:
        assert self._exchange
        if not self._exchange.take(self._repo, stage, entry):
            raise DvcException(
                "it ran, but its outputs are not in the DVC remote; look at that, and run the same "
                "command again"
            )

    def give_up(self, name: str) -> None:
        """Let go of a stage: other DVC processes may have what it reads and writes."""
        self._held.pop(name).close()  # under a lock of its own, which nobody has for long

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
