"""What the name of a model means: its files, and all that makes masks of images by it."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from segbench.arrays.store import read_header
from segbench.errors import InputError
from segbench.evaluation.results import read_run_file, read_scores
from segbench.exports.description import Description, parse_description
from segbench.exports.formats import DataFormat, data_facts
from segbench.exports.masks import MaskRule
from segbench.exports.onnx_file import read_description
from segbench.files import sha256_of
from segbench.labels import LabelScheme
from segbench.params.augment import Patches
from segbench.params.compare import RunKey
from segbench.params.section import did_you_mean
from segbench.report.drawing import class_colours
from segbench.tracking.address import tracking_uri
from segbench.tracking.records import Run, read_run

CHAMPION = "champion"
REGISTERED = "models:/"
KINDS = {".safetensors": "weights", ".pt2": "program", ".onnx": "onnx"}
"""Forms of a model, by the ending of its file."""
DESCRIPTION = "description.json"
WEIGHTS_SHA256 = "segbench.weights_sha256"
"""Tag of a run and of a registered model."""


@dataclass(frozen=True)
class Layout:
    """Where a workspace keeps what is read here; see dvc.yaml."""

    arrays: Path
    trained: Path
    evaluations: Path
    metrics: Path
    runs: Path
    table: Path
    """The comparison's leaderboard."""


@dataclass(frozen=True)
class Source:
    """A model, and how masks are made by it.

    Attributes:
        name: of its run.
        files: by kind, a value of `KINDS`.
        sha256: of its weights.
        classes: names by class id.
        colours: `#rrggbb` by class id.
        background: class id of what is no object; None: there is none.
        channels, height, width: of the network's input.
        patches: what images are cut into before they are resized to that; None: nothing.
        rule: how probabilities become masks.
        data: how images are read and masks written.
    """

    name: str
    files: Mapping[str, Path]
    sha256: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    background: int | None
    channels: int
    height: int
    width: int
    patches: Patches | None
    rule: MaskRule
    data: DataFormat

    @property
    def scheme(self) -> LabelScheme:
        """Of the classes."""
        return LabelScheme(len(self.classes), self.background)


def find_model(name: str, layout: Layout, cache: Path) -> Source:
    """The model of a name.

    Args:
        name: `champion`, a candidate, a run, a model's file or folder, or `models:/name@alias` or
            `models:/name/version` of MLflow's registry.
        layout: of the workspace.
        cache: folder for what is fetched from MLflow.

    Raises:
        InputError: for a name of nothing, and for files that do not belong together.
    """
    if name.startswith(REGISTERED):
        return _registered(name, layout, cache)
    path = Path(name).expanduser()
    # Of os, which finds nothing by a name that is too long.
    if os.path.exists(path) and (path.is_dir() or path.suffix in KINDS):
        return _of_path(path, layout)
    if path.suffix == ".xml":
        raise InputError(f"{name}: name model.onnx beside it, which OpenVINO runs too")
    if path.suffix in KINDS or "/" in name:
        raise InputError(f"{name}: no such file or folder; name a model that is there")
    candidate = champion(layout) if name == CHAMPION else name
    run = candidate if os.path.exists(layout.metrics / f"{candidate}.json") else ""
    return _of_run(run or run_of(candidate, layout), layout)


def champion(layout: Layout) -> str:
    """The candidate that leads the comparison."""
    try:
        with layout.table.open(encoding="utf-8", newline="") as file:
            return next(csv.DictReader(file))["candidate"]
    except (OSError, StopIteration, KeyError, csv.Error):
        raise InputError(
            f"{layout.table}: missing or damaged, so there is no champion; run 'segbench repro', "
            "or name a run or a model's file"
        ) from None


def run_of(candidate: str, layout: Layout) -> str:
    """The run that stands for a candidate: the best on validation, by its own mask rule.

    Args:
        candidate: an alias.
        layout: of the workspace.

    Raises:
        InputError: if none of its runs was evaluated.
    """
    found: list[tuple[float, tuple[int, int], str]] = []
    known: dict[str, None] = {}
    for path in layout.metrics.glob("*-fold*-seed*.json"):
        alias, fold, seed = path.stem.rsplit("-", 2)
        known[alias] = None
        if alias == candidate:
            score = read_scores(path).get("val/dice_per_image_chosen")
            order = int(fold.removeprefix("fold")), int(seed.removeprefix("seed"))
            found.append((-1.0 if score is None else score, order, path.stem))
    if not found:
        others = sorted(known)
        said = f"there are {', '.join(others)}" if others else "none was evaluated yet"
        raise InputError(
            f"no model '{candidate}'{did_you_mean(candidate, [CHAMPION, *others])}; name "
            f"{CHAMPION}, a candidate ({said}), a run such as {RunKey('resnet18', 0, 0).name}, a "
            f"model's file, or {REGISTERED}NAME@ALIAS"
        )
    return min(found, key=lambda one: (-one[0], one[1]))[2]


def _of_run(run: str, layout: Layout) -> Source:
    """The model of a run of this workspace."""
    weights = layout.trained / run / "weights.safetensors"
    scores = layout.metrics / f"{run}.json"
    summary = read_scores(scores)
    if not weights.exists():
        raise InputError(f"{weights}: missing; run 'dvc pull' or 'segbench repro'")
    sha256 = sha256_of(weights)
    trained = read_run_file(layout.runs / f"{run}.json")["weights_sha256"]
    if not sha256 == trained == summary["sha256"]["weights"]:
        raise InputError(
            f"{weights}: not the weights that {scores} was made from; run 'dvc pull' or "
            "'segbench repro'"
        )
    header = read_header(layout.arrays)
    if header.digest != summary["sha256"]["dataset"]:
        raise InputError(
            f"{layout.arrays}: of other data than those that {run} was scored on; run 'segbench "
            "repro' to train and score it anew"
        )
    record = _read_record(layout.trained / run / "record").params
    info = header.dataset
    return Source(
        name=run,
        files=_with_onnx(weights, run, sha256, layout),
        sha256=sha256,
        classes=info.classes,
        colours=tuple(class_colours(info.colours, info.scheme)),
        background=info.background,
        channels=header.channels,
        height=int(record["augment.height"]),
        width=int(record["augment.width"]),
        patches=_patches(
            {
                key.removeprefix("augment.patches."): int(value)
                for key, value in record.items()
                if key.startswith("augment.patches.")
            }
        ),
        rule=MaskRule(**summary["chosen"]),
        data=DataFormat.of(data_facts(record, info), len(info.classes)),
    )


def _with_onnx(weights: Path, run: str, sha256: str, layout: Layout) -> Mapping[str, Path]:
    """The files of a run: its weights, and what evaluation made of them."""
    exported = layout.evaluations / run / "model.onnx"
    if exported.exists() and read_description(exported).weights_sha256 == sha256:
        return {"onnx": exported, "weights": weights}
    return {"weights": weights}


def _of_path(path: Path, layout: Layout) -> Source:
    """The model of a file or a folder: of a run of this workspace, or delivered."""
    folder = path if path.is_dir() else path.parent
    for place in (layout.trained, layout.evaluations):
        if folder.resolve().parent == place.resolve() and not (folder / DESCRIPTION).exists():
            source = _of_run(folder.name, layout)
            own = {KINDS[path.suffix]: path} if path.is_file() else source.files
            return _with_files(source, own)
    described = folder / DESCRIPTION
    if path.suffix == ".onnx":
        return _described(read_description(path), {"onnx": path})
    if not described.exists():
        wanted = "a model.onnx, or a folder that 'segbench deliver' wrote"
        raise InputError(
            f"{path}: no {DESCRIPTION} beside it, so nothing says of which classes and size it "
            f"is; name {wanted}, or a file of a run in this workspace"
        )
    own = {KINDS[path.suffix]: path} if path.is_file() else _files_of(folder)
    return _described(parse_description(described.read_text(encoding="utf-8"), described), own)


def _files_of(folder: Path) -> dict[str, Path]:
    return {KINDS[path.suffix]: path for path in sorted(folder.iterdir()) if path.suffix in KINDS}


def _with_files(source: Source, files: Mapping[str, Path]) -> Source:
    content = {one.name: getattr(source, one.name) for one in fields(source)}
    return Source(**{**content, "files": files})


def _described(said: Description, files: Mapping[str, Path]) -> Source:
    """The model that a description is of."""
    return Source(
        name=said.name,
        files=files,
        sha256=said.weights_sha256,
        classes=said.classes,
        colours=said.colours,
        background=said.background,
        channels=said.channels,
        height=said.height,
        width=said.width,
        patches=said.patches,
        rule=said.rule,
        data=DataFormat.of(said.data, len(said.classes)),
    )


def _registered(name: str, layout: Layout, cache: Path) -> Source:
    """The model of a version in MLflow's registry."""
    from segbench.tracking.versions import fetch_version, find_version  # which takes seconds

    uri = tracking_uri(Path.cwd())
    version = find_version(name, uri)
    local = version.tags.get("segbench.run") or version.run
    weights = layout.trained / local / "weights.safetensors"
    if local and weights.exists() and sha256_of(weights) == version.tags.get(WEIGHTS_SHA256):
        return _of_run(local, layout)
    fetched = fetch_version(version, uri, cache / f"{version.model}-{version.number}")
    for path in [*sorted(fetched.rglob("*.onnx")), *sorted(fetched.rglob(DESCRIPTION))]:
        return _of_path(path if path.suffix == ".onnx" else path.parent, layout)
    raise InputError(
        f"{name}: neither is its run in this workspace, nor does it hold a model.onnx or a "
        f"{DESCRIPTION}; run 'dvc pull' here, or register a delivered model"
    )


def _read_record(folder: Path) -> Run:
    try:
        return read_run(folder)
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"{folder}: missing or damaged, and says how images are read; run 'dvc pull' or "
            "'segbench repro'"
        ) from None


def _patches(found: Mapping[str, Any]) -> Patches | None:
    return Patches(**found) if found else None
