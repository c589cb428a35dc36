"""A trained network as files that anyone can use, scored anew before they go."""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from segbench.arrays.store import Header, open_arrays, read_header
from segbench.delivery.card import write_card
from segbench.delivery.finding import Layout, Source, find_model
from segbench.delivery.rescore import AsNetwork, Rescored, Row, rescore, time_runtimes
from segbench.delivery.usage import usage
from segbench.devices import prepare, resolve
from segbench.errors import InputError
from segbench.evaluation.evaluate import load_networks
from segbench.evaluation.predict import Truths
from segbench.evaluation.results import RunResult, read_predictions, read_result
from segbench.exports.description import KEY, Description
from segbench.exports.onnx import save
from segbench.exports.onnx_file import read_description
from segbench.exports.packages import there
from segbench.exports.runtimes import Runtime, open_runtime
from segbench.files import atomic_folder, sha256_of
from segbench.params import Params
from segbench.params.compare import RunKey
from segbench.tracking.records import CARD, CARD_TAG, Run, now_ms, read_run, recorded
from segbench.untrusted.onnx_file import checked_onnx

FILES = {"torch": "model.pt2", "onnxruntime": "model.onnx", "openvino": "model.xml"}
"""What each runtime reads of a delivery."""
OWN = "evaluation"
"""The row of the network as evaluation ran it."""


@dataclass(frozen=True)
class Paths:
    """Where a workspace keeps what is delivered; see dvc.yaml."""

    dataset: Path
    arrays: Path
    trained: Path
    metrics: Path
    history: Path
    evaluations: Path
    runs: Path
    split: Path
    audit: Path
    table: Path
    deliveries: Path
    records: Path

    @property
    def layout(self) -> Layout:
        """Those by which a model is found."""
        return Layout(**{one.name: getattr(self, one.name) for one in fields(Layout)})


@dataclass(frozen=True)
class Limits:
    """From where on a delivery is refused.

    Attributes:
        dice: by how much a runtime's mean dice per image may differ from evaluation's.
        pixels: the share of test pixels that may be of another class.
    """

    dice: float
    pixels: float


def deliver(params: Params, paths: Paths, wanted: str, name: str, limits: Limits) -> str:
    """Write a run's network as pt2, ONNX and OpenVINO's files, with its scores and a model card.

    Each is scored anew on the test images by its runtime. Where the scores or too many masks are
    not those of evaluation, nothing is written, and a former delivery stays as it is.

    Args:
        params: all of them.
        paths: of the workspace.
        wanted: `champion`, a candidate or a run.
        name: of the folder in `paths.deliveries`; empty: that of the run.
        limits: from where on it is refused.

    Returns:
        The table of runtimes, and where the delivery is.

    Raises:
        InputError: for a name of no run, or of a model that is not this workspace's run of that
            name; results that do not belong together, packages that are not installed, and scores
            that differ.
    """
    source = find_model(wanted, paths.layout, paths.deliveries)
    key = _key_of(source.name, paths.metrics)
    run = read_result(*key, paths.metrics, paths.evaluations, paths.history, paths.runs)
    header = read_header(paths.arrays)
    resolved = resolve(params.hardware.model_copy(update={"device": "cpu", "devices": 1}))
    prepare(resolved)
    described = _described(run, paths.split)
    check_same(wanted, source, run, described)
    weights = paths.trained / run.name / "weights.safetensors"
    network = load_networks(weights, resolved.device)[described.flips]
    folder = paths.deliveries / (name or run.name)
    with atomic_folder(folder) as partial:
        shutil.copyfile(run.folder / "model.pt2", partial / "model.pt2")
        save(checked_onnx(run.folder / "model.onnx"), described, partial / "model.onnx")
        if there("openvino"):
            write_openvino(partial / "model.onnx", partial / "model.xml", described)
        opened = {
            runtime: open_runtime(runtime, partial / file, resolved.threads)
            for runtime, file in FILES.items()
            if (partial / file).exists()
        }
        rows = _rows(params, paths, run, header, described, network, opened)
        check(rows, limits, wanted)
        _write_table(rows, partial / "runtimes.csv")
        (partial / "description.json").write_text(described.to_json() + "\n", encoding="utf-8")
        (partial / "use.py").write_text(usage(described), encoding="utf-8")
        write_card(params, paths.audit, paths.table, run, header, described, rows, partial)
    missing = (
        "" if there("openvino") else ("without OpenVINO's files: pip install -e '.[delivery]'\n")
    )
    _record(run.name, params, paths, folder)
    return f"{table_text(rows)}\n{missing}{run.name} is delivered in {folder}; begin with card.md"


def _record(run: str, params: Params, paths: Paths, folder: Path) -> None:
    """Have MLflow show the card and the table of runtimes beside the run."""
    training = read_run(paths.trained / run / "record")
    told = Run(training.id, "deliver", training.experiment, training.name, now_ms())
    place = paths.records / folder.name / "record"
    with recorded(place, told, params.tracking.max_wait_s) as record:
        for name in ("card.md", "runtimes.csv"):
            shutil.copyfile(folder / name, record.artifact(CARD).with_name(name))
        record.tags[CARD_TAG] = CARD


def _key_of(run: str, metrics: Path) -> RunKey:
    """Which run it is; InputError unless it is one of this workspace."""
    if not (metrics / f"{run}.json").exists():
        raise InputError(
            f"{run}: no run of this workspace, and only one whose test images are here is "
            "delivered; name champion, a candidate or a run"
        )
    candidate, fold, seed = run.rsplit("-", 2)
    return RunKey(candidate, int(fold.removeprefix("fold")), int(seed.removeprefix("seed")))


def _described(run: RunResult, split: Path) -> Description:
    """What evaluation's ONNX file says of itself, and by which split all folds were made."""
    file = run.folder / "model.onnx"
    if not file.exists():
        raise InputError(
            f"{run.name}: not delivered: ONNX has no words for this network, as its evaluation "
            f"said; {run.folder / 'model.pt2'}, which torch runs, is whole"
        )
    return read_description(file).model_copy(update={"split_digest": sha256_of(split)})


def check_same(wanted: str, source: Source, run: RunResult, described: Description) -> None:
    """Stop a delivery of another model than the one that was asked for.

    After a training anew, a file or a registered version is of the run's former weights.

    Args:
        wanted: what was asked for.
        source: the model of it.
        run: of this workspace, by the same name.
        described: what is delivered of it.

    Raises:
        InputError: if weights or mask rules differ.
    """
    trained = run.trained["weights_sha256"]
    if source.sha256 != trained:
        differs = f"weights {trained[:12]}, and it has {source.sha256[:12]}"
    elif source.rule != described.rule:
        differs = f"the mask rule {described.rule}, and it has {source.rule}"
    else:
        return
    raise InputError(
        f"{wanted}: not delivered: {run.name} of this workspace has {differs}; name {run.name} to "
        "deliver this workspace's, or check out the commit that made the other, run 'dvc pull' and "
        "deliver it there"
    )


def write_openvino(model: Path, path: Path, description: Description) -> None:
    """Write OpenVINO's files of an ONNX model, in float32, with its description."""
    import openvino

    whole = openvino.Core().read_model(model)
    whole.set_rt_info(description.to_json(), ["model_info", KEY])
    openvino.save_model(whole, path, compress_to_fp16=False)


def _rows(
    params: Params,
    paths: Paths,
    run: RunResult,
    header: Header,
    described: Description,
    network: nn.Module,
    opened: dict[str, Runtime],
) -> list[Row]:
    """Scores and times of each runtime, after those of the network as evaluation ran it."""
    split = open_arrays(paths.arrays / f"fold{run.fold}" / "test")
    truths, rule, scheme = Truths(paths.dataset), described.rule, described.scheme
    recorded = run.summary["test/dice_per_image_chosen"]
    recorded = np.nan if recorded is None else recorded

    def scored(name: str, one: nn.Module, stored: bool = False) -> Rescored:
        same = stored and rule.flips == params.evaluate.flips
        arguments = (split, truths, params.evaluate, rule, scheme)
        if not same:
            return rescore(name, one, *arguments, None)
        with read_predictions(run) as former:
            return rescore(name, one, *arguments, former)

    first = scored(OWN, network, stored=True)
    found = {name: scored(name, AsNetwork(one)) for name, one in opened.items()}

    def as_evaluated(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            return network(batch).numpy()

    own = Runtime(OWN, version("torch"), as_evaluated)
    times = time_runtimes({OWN: own, **opened}, split, params.evaluate.batch_size)
    differ = {OWN: first.differ or 0} | {
        name: one.pixels_unlike(first) for name, one in found.items()
    }
    files = {OWN: "weights.safetensors", **FILES}
    return [
        Row(
            runtime=name,
            version=(own if name == OWN else opened[name]).version,
            file=files[name],
            dice=one.dice,
            difference=one.dice - recorded,
            pixels_differ=differ[name],
            share_differs=differ[name] / max(first.pixels, 1),
            latency_ms=times[name][0],
            images_per_second=times[name][1],
        )
        for name, one in {OWN: first, **found}.items()
    ]


def check(rows: Sequence[Row], limits: Limits, wanted: str) -> None:
    """Stop a delivery that does not give what was scored.

    Raises:
        InputError: if the dice of a runtime, or too many pixels, are not evaluation's.
    """
    for row in rows:
        both = np.isnan(row.dice) and np.isnan(row.difference)  # no image has a score
        if not (abs(row.difference) <= limits.dice or both) or row.share_differs > limits.pixels:
            raise InputError(
                f"{wanted}: not delivered: {row.file} by {row.runtime} {row.version} scores "
                f"{row.dice:.4f} on test, {row.difference:+.4f} against evaluation, and "
                f"{100 * row.share_differs:.4f} % of the pixels differ, where {limits.dice:g} and "
                f"{100 * limits.pixels:g} % are allowed; take other versions of it, score the run "
                "anew on this machine ('segbench repro -f -s evaluate'), or allow more by "
                "--most-dice and --most-pixels"
            )


def table_text(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    lines = [
        ["runtime", "dice", "difference", "pixels that differ", "ms an image", "images/s"],
        *(
            [
                f"{row.runtime} {row.version}",
                f"{row.dice:.4f}",
                f"{row.difference:+.6f}",
                f"{row.pixels_differ} ({100 * row.share_differs:.4f} %)",
                f"{row.latency_ms:.1f}",
                f"{row.images_per_second:.1f}",
            ]
            for row in rows
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _write_table(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))
