"""Finished comparisons, read back from their folders, and whether they can be taken together."""

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segbench.errors import InputError
from segbench.evaluation.results import RunResult, read_result, read_scores
from segbench.params import Params, load_params

MOST_NAMED = 3
"""Keys that a sentence names."""
ALIKE = ("metric", "class_weights", "smallest_that_matters", "confidence")
"""Keys of `comparison` that must be the same in all."""


@dataclass(frozen=True)
class Layout:
    """Where a workspace has what a verdict reads, relative to its root; see dvc.yaml."""

    params: str
    lock: str
    split: str
    metrics: str
    evaluations: str
    history: str
    runs: str


@dataclass(frozen=True)
class Finished:
    """A finished comparison.

    Attributes:
        folder: in which it lies.
        params: of it.
        label: its data set, with the folder where several have the same name.
        runs: of the candidates that all comparisons have.
        audit: what its split stage counted.
    """

    folder: Path
    params: Params
    label: str
    runs: list[RunResult]
    audit: dict[str, Any]


@dataclass(frozen=True)
class Together:
    """Comparisons of the same candidates on several data sets.

    Attributes:
        finished: the comparisons, in the order in which they were named.
        aliases: of the candidates that all of them have.
        left_out: the other candidates, with the folders that have them.
        unlike: keys of the recipes that are not the same in all.
    """

    finished: list[Finished]
    aliases: list[str]
    left_out: dict[str, list[str]]
    unlike: list[str]

    @property
    def params(self) -> Params:
        """Those of the first, which stand for all in what must be the same."""
        return self.finished[0].params


def read_together(folders: Sequence[Path], layout: Layout) -> Together:
    """Read finished comparisons, and check that they compare the same things.

    Args:
        folders: of the comparisons.
        layout: of each.

    Raises:
        InputError: for fewer than two, what is not there, not up to date or not the same, and for
            data that are there twice.
    """
    for folder in folders:
        if not (folder / layout.params).is_file():
            raise InputError(
                f"{shown(folder)}: no comparison, it has no {layout.params}; name the root of a "
                "workspace or of a recipe's copy"
            )
    if len(folders) < 2:
        raise InputError(
            "a verdict over several data sets needs two comparisons or more; name their folders, "
            "as in 'segbench verdict runs/a runs/b'"
        )
    every = {folder: load_params(folder / layout.params) for folder in folders}
    if len(every) < len(folders):
        twice = next(folder for folder in folders if folders.count(folder) > 1)
        raise InputError(f"{shown(twice)} is named twice; name each comparison once")
    for key in ALIKE:
        _check_same(
            f"comparison.{key}",
            {folder: getattr(params.comparison, key) for folder, params in every.items()},
            "give it one value in all, and 'segbench repro' makes the report anew",
        )
    aliases, left_out = _common(every)
    for alias in aliases:
        for field in ("encoder", "encoder_args", "weights", "input_scaling"):
            _check_same(
                f"candidates.{alias}.{field}",
                {folder: _identity(params, alias)[field] for folder, params in every.items()},
                "give what differs names of their own",
            )
    labels = _labels(every)
    finished = [
        _read(folder, params, label, aliases, layout)
        for (folder, params), label in zip(every.items(), labels, strict=True)
    ]
    _check_origins(finished, aliases)
    _check_data(finished)
    return Together(finished, aliases, left_out, _unlike([*every.values()]))


def shown(folder: Path) -> str:
    """A folder as a message names it: from here, if it is below."""
    path = os.path.relpath(folder)
    return str(folder) if path.startswith("..") else path


def _check_same(what: str, values: dict[Path, object], way_out: str) -> None:
    """Raise InputError if a value is not the same in all comparisons."""
    (first, value), *rest = values.items()
    for folder, other in rest:
        if other != value:
            raise InputError(
                f"{what} is {value} in {shown(first)} and {other} in {shown(folder)}, so they "
                f"cannot be taken together; {way_out}"
            )


def _identity(params: Params, alias: str) -> dict[str, object]:
    """What makes a candidate what it is; a weights file is its content, wherever it lies."""
    one = params.candidates[alias]
    weights = "from scratch" if one.from_scratch else one.weights_sha256 or one.weights
    return {
        "encoder": one.encoder,
        "encoder_args": one.encoder_args,
        "weights": weights,
        "input_scaling": one.input_scaling,
    }


def _common(every: dict[Path, Params]) -> tuple[list[str], dict[str, list[str]]]:
    """Candidates of all comparisons, and where the others are; points of learning curves are
    none."""
    where: dict[str, list[str]] = {}
    for folder, params in every.items():
        for alias in params.rivals:
            where.setdefault(alias, []).append(shown(folder))
    common = [alias for alias, folders in where.items() if len(folders) == len(every)]
    left_out = {alias: folders for alias, folders in where.items() if alias not in common}
    if len(common) < 2:
        has = f"only {common[0]}" if common else "none"
        raise InputError(
            f"{' and '.join(map(shown, every))} need two candidates in common under the same names "
            f"and have {has}; add some to comparison.candidates and run 'segbench repro' there"
        )
    return common, left_out


def _labels(every: dict[Path, Params]) -> list[str]:
    names = [
        str(getattr(params.dataset, "title", params.dataset.name)) for params in every.values()
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({folder.resolve().name})"
        for name, folder in zip(names, every, strict=True)
    ]


def _read(
    folder: Path, params: Params, label: str, aliases: Sequence[str], layout: Layout
) -> Finished:
    _check_up_to_date(folder, params, aliases, layout)
    chosen = params.comparison
    keys = itertools.product(aliases, chosen.folds, chosen.seeds)
    places = [
        Path(shown(folder)) / place
        for place in (layout.metrics, layout.evaluations, layout.history, layout.runs)
    ]
    runs = [read_result(*key, *places) for key in keys]
    audit = read_scores(Path(shown(folder)) / layout.split)
    try:
        digests = {run.summary["sha256"]["dataset"] for run in runs}
        _ = [run.trained["origin"]["sha256"] for run in runs]
        _ = [audit[f"fold{fold}"]["leaks"] for fold in chosen.folds]
    except KeyError as key:
        raise InputError(
            f"{shown(folder)}: its results lack {key}, so an earlier version wrote them; run "
            "'segbench repro' there"
        ) from None
    if len(digests) > 1:
        raise InputError(
            f"{shown(folder)}: its candidates were scored on different data; run 'segbench repro' "
            "there"
        )
    return Finished(folder, params, label, runs, audit)


def _check_up_to_date(folder: Path, params: Params, aliases: Sequence[str], layout: Layout) -> None:
    """Raise InputError if params changed since DVC ran what the results come from."""
    path = folder / layout.lock
    if not path.exists():
        return  # the stages were run by hand
    try:
        lock = YAML(typ="safe", pure=True).load(path.read_text())
        stages = lock["stages"]
    except (OSError, ValueError, YAMLError, KeyError, TypeError):
        raise InputError(f"{shown(path)}: missing or damaged; run 'segbench repro' there") from None
    own = [key.item for key in params.comparison.runs if key.candidate in aliases]
    names = ["download", "split", "augment"]
    names += [f"{stage}@{item}" for stage in ("train", "evaluate") for item in own]
    tree = YAML(typ="safe", pure=True).load((folder / layout.params).read_text())
    changed = {
        key
        for name in names
        for known in stages.get(name, {}).get("params", {}).values()
        for key, value in known.items()
        if _value(tree, key) != value
    }
    if changed:
        raise InputError(
            f"{shown(folder)}: {layout.params} is not that of its results, {few(sorted(changed))} "
            f"changed; run 'segbench repro' there"
        )


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _check_origins(finished: Sequence[Finished], aliases: Sequence[str]) -> None:
    """Raise InputError if a name of the hub brought other weights."""
    for alias in aliases:
        hashes = [
            {run.trained["origin"]["sha256"] for run in one.runs if run.alias == alias}
            for one in finished
        ]
        for one, found in zip(finished, hashes, strict=True):
            if found != hashes[0]:
                raise InputError(
                    f"{alias} started from other weights in {shown(one.folder)} than in "
                    f"{shown(finished[0].folder)} (origin.sha256 in reports/runs); give what "
                    "differs names of their own"
                )


def _check_data(finished: Sequence[Finished]) -> None:
    """Raise InputError if two comparisons are of the same data."""
    known: dict[str, Finished] = {}
    for one in finished:
        digest = one.runs[0].summary["sha256"]["dataset"]
        if digest in known:
            raise InputError(
                f"{shown(known[digest].folder)} and {shown(one.folder)} are of the same data "
                f"({digest[:12]}), which would count twice; name one of them"
            )
        known[digest] = one


def _unlike(every: Sequence[Params]) -> list[str]:
    """Keys of the recipes that are not the same in all."""
    recipes = [
        dict(_leaves({name: params.model_dump()[name] for name in ("model", "train")}))
        for params in every
    ]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    return [
        key
        for key in keys
        if len({json.dumps(recipe.get(key), default=str) for recipe in recipes}) > 1
    ]


def _leaves(tree: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{path}{key}.")
        else:
            found.append((f"{path}{key}", value))
    return found


def few(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    more = len(names) - MOST_NAMED
    return ", ".join([*names[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])])
