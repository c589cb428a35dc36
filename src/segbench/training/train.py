"""Training: one candidate, one fold, one seed."""

import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric, seed_everything

from segbench.arrays.batches import PlainBatches, TrainBatches, on_device
from segbench.arrays.store import Arrays, Header, open_arrays, read_header
from segbench.arrays.transforms import load_pipeline, vary
from segbench.devices import Resolved, prepare, resolve, within_memory
from segbench.errors import InputError
from segbench.files import whole_file
from segbench.images import IGNORE, Pixels
from segbench.models.catalogue import check_names
from segbench.models.freezing import freeze
from segbench.models.network import build_network, check_size, save_network
from segbench.models.origin import Origin, origin_of
from segbench.params import Params
from segbench.params.train import Train
from segbench.report.animation import save_animation
from segbench.report.drawing import class_colours, paint, shrink, to_colour
from segbench.tracking.records import Run, flatten, recorded
from segbench.training.checkpoints import Checkpoints
from segbench.training.distributed import make_fabric
from segbench.training.identity import checkpoint_key, describe_run
from segbench.training.lr_search import Trial, tags_of, try_rates, tuned
from segbench.training.optim import check_steps
from segbench.training.phases import phases_of
from segbench.training.trainer import Fit

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
    checkpoints: Path,
) -> str:
    """Fit one candidate and write its weights, its history and its record.

    A training that was killed goes on from its last checkpoint, as the same run, and ends as if it
    had not been.

    Args:
        params: all of them, for the record.
        alias: of the candidate.
        fold, seed: which repetition.
        arrays: folder that the augment stage wrote; the test split is not opened.
        out: receives weights.safetensors and record/.
        history: a CSV file with a row an epoch; no times, so that it repeats.
        run_file: a JSON file with the id under which the tracking server knows the run, its
            learning rate, the trials that chose it, and how often it rolled back.
        checkpoints: folder for checkpoints of all runs, no output of DVC.

    Returns:
        A line that says what was made; nothing in all but the first of several processes.

    Raises:
        InputError: for names, weights or devices that do not exist, and a loss that diverges.
    """
    started = time.perf_counter()
    # All candidates, so that a misspelt last one is found before the first has trained.
    check_names(params.model, {name: params.candidates[name] for name in _listed(params, alias)})
    resolved = resolve(params.hardware)
    header = read_header(arrays)
    _check_fit(params, header, resolved)
    fabric = make_fabric(resolved)
    prepare(resolved)  # after Lightning, which sets threads of its own
    run = describe_run(params, alias, fold, seed, resolved, arrays)
    saved = Checkpoints(
        checkpoints / run.name, checkpoint_key(params, alias, fold, seed, resolved, arrays)
    )
    with ExitStack() as stack:
        stack.enter_context(
            within_memory(
                f"lower train.batch_size, now {params.train.batch_size}, or use smaller images"
            )
        )
        if fabric.is_global_zero:
            stack.enter_context(saved.until_done())
        fabric.barrier()  # all read when nobody else writes
        state = saved.newest()
        fabric.barrier()  # all have read before one writes
        record = None
        if fabric.is_global_zero:
            run, wait = saved.same_run(run), params.tracking.max_wait_s
            lines = state["lines"] if state else []
            record = stack.enter_context(recorded(out / "record", run, wait, lines))
        part = arrays / f"fold{fold}"
        train_split, held_out = open_arrays(part / "train"), open_arrays(part / "val")
        pipeline = load_pipeline(arrays / "pipeline.yaml")
        online, gib = params.augment.online, params.hardware.resident_gib
        staying = train_split if online else on_device(train_split, fabric.device, gib)
        batches = TrainBatches(
            staying,
            params.train.batch_size,
            partial(vary, pipeline) if online else None,
            seed,
            params.train.steps_per_epoch,
            resolved.workers if staying is train_split else 0,
            (fabric.global_rank, fabric.world_size),
            pinned=resolved.device == "cuda" and staying is train_split,
        )
        val = PlainBatches(on_device(held_out, fabric.device, gib), params.train.batch_size)
        shown = _sample_to_show(held_out)
        for phase in phases_of(params.train):
            check_steps(params.train.schedule, len(batches) * phase.num_epochs)
        start = partial(_start, params, alias, seed, header, resolved, fabric)
        trials = try_rates(start, params, batches, val, saved, run.name)
        recipe = tuned(params.train, trials)
        if record is not None:
            record.tags |= tags_of(recipe, trials)
        fit = start(recipe)
        origin = origin_of(params.candidates[alias], fit.network)
        fit.bind(run.name, record, saved, params.checkpoints)
        fit.run(batches, val, shown, state)
        if record is None:
            return ""
        best = fit.kept
        progress = record.artifact("pictures/progress.gif")
        predictions = [prediction.numpy() for prediction in fit.shown_predictions]
        _show_progress(progress, held_out, shown, predictions, header)
        record.tags |= {
            "kept_epoch": str(best["epoch"]),
            "epochs": str(len(fit.history)),
            "rewinds": str(fit.rewinds),
            "pieces_per_batch": str(fit.pieces),
            **flatten({"encoder": asdict(origin)}),
        }
        with whole_file(history) as file:
            pd.DataFrame(fit.history).to_csv(file, index=False, lineterminator="\n")
        with whole_file(run_file) as file:
            file.write_text(json.dumps(_outcome(run, fit, trials, origin), indent=2) + "\n")
        with whole_file(out / "weights.safetensors") as file:
            save_network(fit.network.cpu(), file)
    seconds = time.perf_counter() - started
    resumed = f", resumed at epoch {state['epoch']}" if state else ""
    rate = f" at {recipe.optimizer.learning_rate:g}, of {len(trials)} rates," if trials else ""
    return (
        f"{run.name}: {len(fit.history)} epochs{rate} in {seconds:.0f} s{resumed}, validation dice "
        f"per image {best['val_dice_per_image']:.4f} at epoch {best['epoch']}, weights in "
        f"{out / 'weights.safetensors'}"
    )


def _start(
    params: Params,
    alias: str,
    seed: int,
    header: Header,
    resolved: Resolved,
    fabric: Fabric,
    recipe: Train,
) -> Fit:
    """A training before its first step, of a trial or of the run itself: the seed makes it."""
    seed_everything(seed, verbose=False)
    network = build_network(params.model, params.candidates[alias], header.num_outputs)
    network = network.to(memory_format=resolved.memory_format)
    check_size(network, header.height, header.width)
    # Of all phases, before anything has trained.
    for phase in phases_of(params.train):
        freeze(network, phase.freeze_encoder, header.height, header.width)
    if resolved.compile:
        torch.compiler.reset()  # what trials have left; too many of them, and it would give up
        network.compile()
    return Fit(
        fabric,
        network,
        recipe,
        len(header.dataset.classes),
        params.evaluate.threshold,
        header.height,
        header.width,
    )


def _outcome(run: Run, fit: Fit, trials: list[Trial], origin: Origin) -> dict[str, Any]:
    """What later stages read of a run, beside its weights."""
    return {
        "run": run.id,
        "learning_rate": fit.params.optimizer.learning_rate,
        "rollbacks": fit.rewinds,
        "tuning": [asdict(trial) for trial in trials],
        "origin": asdict(origin),
    }


def _check_fit(params: Params, header: Header, resolved: Resolved) -> None:
    """Raise InputError for images or devices that do not go with the params."""
    if header.channels > params.model.in_channels:
        raise InputError(
            f"model.in_channels: {params.model.in_channels}, but the images of "
            f"{header.dataset.name} have {header.channels} channels; set {header.channels}"
        )
    if params.train.batch_size % resolved.devices:
        raise InputError(
            f"train.batch_size: {params.train.batch_size} cannot be divided among "
            f"{resolved.devices} devices; set a multiple of that"
        )


def _listed(params: Params, alias: str) -> list[str]:
    return list(dict.fromkeys([alias, *params.comparison.candidates]))


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
    colours = class_colours(header.dataset.colours, len(header.dataset.classes))
    image, truth, *shown = shrink(
        arrays.images[index], arrays.masks[index], *predictions, most=FRAME_SIZE
    )
    fixed = [to_colour(image), paint(truth, colours)]
    frames = ([*fixed, paint(prediction, colours)] for prediction in shown)
    id = str(arrays.samples["id"][index])
    labels = [f"{id}   epoch {number} of {len(shown)}" for number in range(1, len(shown) + 1)]
    save_animation(path, frames, ["image", "ground truth", "prediction"], labels, colours)
