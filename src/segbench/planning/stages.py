"""Which stages would run."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
from dvc.exceptions import DvcException
from dvc.repo import Repo

from segbench.errors import InputError
from segbench.jobs.pipeline import Stage, describe

MAKE_DATA = {"download", "split", "augment"}


@dataclass(frozen=True)
class Planned:
    """Stages that would run, in an order in which each follows those it needs.

    Attributes:
        stages: each with those it needs among them.
        reads: paths of what each depends on, below the root, by name.
    """

    stages: list[Stage]
    reads: dict[str, list[str]]


def stages_to_run(besides: Collection[str] = ()) -> Planned:
    """The stages that are out of date, or depend on one that is.

    Args:
        besides: stages whose dataset's files changed, which DVC does not see.

    Raises:
        InputError: if DVC cannot say it: no repository of DVC, a damaged dvc.yaml, another DVC.
    """
    try:
        return _stages_to_run({*besides})
    except DvcException as problem:
        reason = " ".join(str(problem).split())
        raise InputError(f"DVC: {reason}; 'segbench repro --dry' says more") from None


def _stages_to_run(besides: set[str]) -> Planned:
    with Repo() as repo:
        changed = set(repo.status()) | besides
        graph = repo.index.graph  # edges lead from a stage to those it depends on
        stale: set[str] = set()
        for stage in graph.nodes:
            if stage.addressing in changed:
                stale.add(stage.addressing)
                stale |= {later.addressing for later in nx.ancestors(graph, stage)}
        root = Path(repo.root_dir)
        stages, reads = [], {}
        for step in repo.index.stages:
            if step.addressing in stale:
                needs = [need for need in graph.successors(step) if need.addressing in stale]
                stages.append(describe(step, needs))
                paths = [Path(dep.fs_path) for dep in step.deps]
                reads[step.addressing] = [
                    path.relative_to(root).as_posix() for path in paths if path.is_relative_to(root)
                ]
        return Planned(stages, reads)


def parts_of(stage: str) -> tuple[str, str, str]:
    """A stage, its candidate and its external set: ('train', alias, '') of 'train@alias-0-1'."""
    name, _, item = stage.partition("@")
    parts = item.split("-")
    if len(parts) == 1 and item:
        return name, "", item
    return name, parts[0], parts[-1] if name.endswith("_external") else ""
