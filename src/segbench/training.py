"""Training: one candidate, one fold, one seed."""

import json
import time
import uuid
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch

from segbench import provenance
from segbench.arrays import Arrays, Header, open_arrays, read_header
from segbench.augmentation import load_pipeline, vary
from segbench.batches import PlainBatches, TrainBatches
from segbench.errors import InputError
from segbench.fitting import Fit, make_trainer, phases_of
from segbench.hardware import Resolved, resolve
from segbench.models import build_network, check_size, save_network
from segbench.models.freezing import freeze
from segbench.models.names import check_names
from segbench.optimization import check_steps
from segbench.params import Params
from segbench.pictures import class_colours, paint, save_animation, shrink, to_colour
from segbench.records import DatasetInput, Record, Run, flatten, followed, now_ms
from segbench.samples import IGNORE, Pixels
from segbench.writing import whole_file

FRAME_SIZE = 256
"""Longer side of a picture in the animation, in pixels."""


def train(
    params: Params,
    alias: str,
    fold: int,
    seed: int,
    arrays: Path,
    out: Path,
    history: Path,
    run_file: Path,
) -> str:
    """Fit one candidate and write its weights, its history and its record.

    Args:
        params: all of them, for the record.
        alias: of the candidate.
        fold, seed: which repetition.
        arrays: folder that the augment stage wrote; the test split is not opened.
        out: receives weights.safetensors and record/.
        history: a CSV file with a row an epoch; no times, so that it repeats.
        run_file: a JSON file with the id under which the tracking server knows the run.

    Returns:
        A line that says what was made.

    Raises:
        InputError: for names, weights or devices that do not exist, and a loss that diverges.
    """
    # All candidates, so that a misspelt last one is found before the first has trained.
    check_names(params.model, {name: params.candidates[name] for name in _listed(params, alias)})
    resolved = resolve(params.train)
    torch.set_num_threads(resolved.threads)
    header = read_header(arrays)
    if header.channels > params.model.in_channels:
        raise InputError(
            f"model.in_channels: {params.model.in_channels}, but the images of "
            f"{header.dataset.name} have {header.channels} channels; set {header.channels}"
        )
    run = _describe(params, alias, fold, seed, resolved, arrays)
    folder = out / "record"
    started = time.perf_counter()
    with followed(folder, run, params.tracking.max_wait_s), Record(folder, run) as record:
        pl.seed_everything(seed, verbose=False)
        network = build_network(params.model, params.candidates[alias], header.num_outputs)
        check_size(network, header.height, header.width)
        part = arrays / f"fold{fold}"
        pipeline = load_pipeline(arrays / "pipeline.yaml")
        fit = Fit(network, params.train, len(header.dataset.classes), params.evaluate.threshold)
        batches = TrainBatches(
            open_arrays(part / "train"),
            params.train.batch_size,
            partial(vary, pipeline) if params.augment.online else None,
            seed,
            lambda: fit.epoch,
            params.train.steps_per_epoch,
        )
        held_out = open_arrays(part / "val")
        shown = _sample_to_show(held_out)
        fit.bind(record, len(batches), batches.batch_size, shown)
        val = PlainBatches(held_out, params.train.batch_size)
        size = (header.height, header.width)
        # Of all phases, before the first has trained.
        for phase in phases_of(params.train):
            freeze(network, phase.freeze_encoder, *size)
            check_steps(params.train.schedule, len(batches) * phase.num_epochs)
        for phase in phases_of(params.train):
            fit.begin(phase, *size)
            make_trainer(params.train, phase, resolved).fit(fit, batches, val)
            fit.restore_kept()
        fit.close()
        best = fit.kept
        progress = record.artifact("pictures/progress.gif")
        _show_progress(progress, held_out, shown, fit.shown_predictions, header)
        record.tags["kept_epoch"] = str(best["epoch"])
        record.tags["epochs"] = str(len(fit.history))
        with whole_file(history) as file:
            pd.DataFrame(fit.history).to_csv(file, index=False, lineterminator="\n")
        with whole_file(run_file) as file:
            file.write_text(json.dumps({"run": run.id}) + "\n")
        with whole_file(out / "weights.safetensors") as file:
            save_network(network.cpu(), file)
    seconds = time.perf_counter() - started
    return (
        f"{run.name}: {len(fit.history)} epochs in {seconds:.0f} s, validation dice per image "
        f"{best['val_dice_per_image']:.4f} at epoch {best['epoch']}, weights in "
        f"{out / 'weights.safetensors'}"
    )


def _listed(params: Params, alias: str) -> list[str]:
    return list(dict.fromkeys([alias, *params.comparison.candidates]))


def _describe(
    params: Params, alias: str, fold: int, seed: int, resolved: Resolved, arrays: Path
) -> Run:
    """The run as the record opens with it: every choice that made it, and where it comes from."""
    header = read_header(arrays)
    chosen = params.model_dump(mode="json", exclude={"candidates", "comparison", "report"})
    chosen["train"] |= {name: getattr(resolved, name) for name in vars(resolved)}
    chosen |= {
        "candidate": {"alias": alias, **params.candidates[alias].model_dump(mode="json")},
        "fold": fold,
        "seed": seed,
    }
    for section in ("evaluate", "tracking"):  # do not shape a training
        del chosen[section]
    candidate = params.candidates[alias]
    counts = {
        split: len(open_arrays(arrays / f"fold{fold}" / split).images) for split in ("train", "val")
    }
    data = DatasetInput(
        header.dataset.name, header.digest[:16], f"{arrays}/fold{fold}", {"images": counts}
    )
    weights = {
        "weights": candidate.weights,
        "weights_sha256": candidate.weights_sha256 or "",
        "candidate": alias,
        "dataset_digest": header.digest,
    }
    return Run(
        id=uuid.uuid4().hex,
        part="train",
        experiment=header.dataset.name,
        name=f"{alias}-fold{fold}-seed{seed}",
        started_ms=now_ms(),
        params=flatten(chosen),
        tags={**provenance.tags(), **weights},
        inputs=[data],
    )


def _sample_to_show(arrays: Arrays) -> int:
    """The sample whose prediction is drawn after each epoch: the first with foreground from the
    middle on."""
    middle = len(arrays.masks) // 2
    for index in (*range(middle, len(arrays.masks)), *range(middle)):
        if not np.isin(arrays.masks[index], (0, IGNORE)).all():
            return index
    return middle


def _show_progress(
    path: Path, arrays: Arrays, index: int, predictions: list[Pixels], header: Header
) -> None:
    """An animation of one sample's prediction, a frame an epoch, beside image and truth."""
    colours = class_colours(header.dataset)
    image, truth, *shown = shrink(
        arrays.images[index], arrays.masks[index], *predictions, most=FRAME_SIZE
    )
    fixed = [to_colour(image), paint(truth, colours)]
    frames = ([*fixed, paint(prediction, colours)] for prediction in shown)
    id = str(arrays.samples["id"][index])
    labels = [f"{id}   epoch {number} of {len(shown)}" for number in range(1, len(shown) + 1)]
    save_animation(path, frames, ["image", "ground truth", "prediction"], labels, colours)
