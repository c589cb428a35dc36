"""The train stage: one candidate, one fold, one seed."""

import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric, seed_everything
from numpy.typing import NDArray

from segbench.arrays.store import open_arrays, read_header
from segbench.devices import ResolvedHardware, oom_as_input_error, prepare, resolve
from segbench.files import atomic_file, sha256_of
from segbench.models.catalogue import check_names
from segbench.models.freezing import freeze
from segbench.models.network import build_network, check_batch, check_size, save_network
from segbench.models.origin import Origin, is_adapted, origin_of
from segbench.params import Params
from segbench.params.train import Train
from segbench.tracking.records import Record, flatten, recorded
from segbench.training.checkpoints import Checkpoints
from segbench.training.data import (
    TrainingData,
    check_data,
    check_shares,
    class_pixels,
    open_data,
)
from segbench.training.distributed import make_fabric
from segbench.training.identity import checkpoint_key, describe_run
from segbench.training.losses import class_weights_of, with_class_weights
from segbench.training.lr_search import Trial, best_recipe, search_learning_rate, trial_tags
from segbench.training.optim import check_steps
from segbench.training.phases import phases_of
from segbench.training.preview import save_preview
from segbench.training.state import TrainingState
from segbench.training.trainer import Progress, Trainer


def train(
    params: Params,
    candidate: str,
    fold: int,
    seed: int,
    arrays: Path,
    out: Path,
    history: Path,
    run: Path,
    checkpoints: Path,
) -> str:
    """Train one candidate with one seed on one fold.

    A killed training resumes from its latest checkpoint as the same run, with the same result; one
    that had ended, but that DVC does not know of, trains no epoch again.

    Args:
        params: all of them, for the record.
        candidate: its alias.
        fold, seed: the repetition.
        arrays: folder that the augment stage wrote; the test split is not opened.
        out: receives weights.safetensors and record/.
        history: a CSV file with a row per epoch; without times, so that it is reproducible.
        run: a JSON file for later stages: the run's id on the tracking server, the sha256 of its
            weights, its learning rate and trials, its rollbacks, its class weights, how many images
            an epoch went through, of how many groups, and the origin of its encoder.
        checkpoints: folder for checkpoints of all runs, not a DVC output.

    Returns:
        A summary line; empty in all processes but the first.

    Raises:
        InputError: for names, weights or devices that do not exist, a batch that does not fit into
            memory, and a training that diverges.
    """
    started = time.perf_counter()
    # Check all candidates, so that a misspelt one is found before any is trained.
    aliases = dict.fromkeys([candidate, *params.comparison.candidates])
    check_names(params.model, {alias: params.candidates[alias] for alias in aliases})
    resolved = resolve(params.hardware)
    check_data(params, read_header(arrays), resolved)
    check_shares(params, candidate, fold, seed, arrays)
    fabric = make_fabric(resolved)
    prepare(resolved)  # after Lightning, which sets its own number of threads
    described = describe_run(params, candidate, fold, seed, resolved, arrays)
    key = checkpoint_key(params, candidate, fold, seed, resolved, arrays)
    saved = Checkpoints(checkpoints / described.name, key)
    with ExitStack() as stack:
        stack.enter_context(oom_as_input_error(_smaller_batch(params, resolved)))
        if fabric.is_global_zero:
            stack.enter_context(saved.locked())
            stack.enter_context(saved.mirrored(params.checkpoints.url))
        state = _load_state(saved, fabric)
        resumed = f", resumed at epoch {state.epoch}" if state else ""
        record = None
        if fabric.is_global_zero:
            described, wait = saved.same_run(described), params.tracking.max_wait_s
            lines = state.lines if state else []
            record = stack.enter_context(recorded(out / "record", described, wait, lines))
        data = open_data(params, candidate, fold, seed, arrays, resolved, fabric)
        recipe = with_class_weights(params.train, partial(_class_pixels, arrays, fold, data))
        params = params.model_copy(update={"train": recipe})
        for phase in phases_of(params.train):
            check_steps(params.train.schedule, len(data.batches) * phase.num_epochs)
        make_trainer = partial(_make_trainer, params, candidate, seed, resolved, fabric, data)
        trials = search_learning_rate(
            make_trainer, params, len(data.batches), saved, described.name
        )
        recipe = best_recipe(params.train, trials)
        trainer = make_trainer(recipe, Progress(described.name, record, saved, params.checkpoints))
        origin = origin_of(params.candidates[candidate], trainer.network)
        trainer.run(state)
        if record is None:
            return ""
        _complete_record(record, trainer, trials, origin)
        weights = out / "weights.safetensors"
        with atomic_file(weights) as file:
            save_network(trainer.network.cpu(), file)
            sha256 = sha256_of(file)
        ids = {"run": described.id, "weights_sha256": sha256}
        _write_results(trainer, ids, trials, origin, history, run)
        saved.finish(run)
    best, epochs = trainer.state.selected_epoch, len(trainer.state.history)
    ignored = f", {data.num_ignored} wholly ignored images left out" if data.num_ignored else ""
    channels = params.model.in_channels
    adapted = (
        f"{described.name}: pretrained weights are for RGB images; those of the first convolution "
        f"were repeated over {channels} channels and scaled by 3/{channels}\n"
        if is_adapted(params.candidates[candidate], channels)
        else ""
    )
    rate = f" at {recipe.optimizer.learning_rate:g}, of {len(trials)} rates," if trials else ""
    return (
        f"{adapted}{described.name}: {epochs} epochs{rate} in {time.perf_counter() - started:.0f} s"
        f"{resumed}{ignored}, validation dice per image {best['val_dice_per_image']:.4f} at epoch "
        f"{best['epoch']}, weights in {weights}"
    )


def _class_pixels(arrays: Path, fold: int, data: TrainingData) -> NDArray[np.int64]:
    """(K,): pixels of each class in what is trained on."""
    split = open_arrays(arrays / f"fold{fold}" / "train")
    return class_pixels(split, data.rows, len(data.header.dataset.classes))


def _smaller_batch(params: Params, resolved: ResolvedHardware) -> str:
    """Message for a batch that does not fit into memory."""
    size, share = params.train.batch_size, params.train.batch_size // resolved.devices
    return (
        f"{share} images {params.augment.width}x{params.augment.height} at a time do not fit; try "
        f"train.batch_size: {max(1, size // 2)}, or smaller images"
    )


def _load_state(saved: Checkpoints, fabric: Fabric) -> TrainingState | None:
    """The state of the latest checkpoint, the same in all processes; None if there is none."""
    fabric.barrier()  # nobody writes while anyone reads
    latest = saved.load_latest()
    fabric.barrier()  # everyone has read before anyone writes
    return TrainingState.from_checkpoint(latest) if latest else None


def _make_trainer(
    params: Params,
    candidate: str,
    seed: int,
    resolved: ResolvedHardware,
    fabric: Fabric,
    data: TrainingData,
    recipe: Train,
    progress: Progress,
) -> Trainer:
    """A trainer before its first step, for a trial or the training itself; seeds torch first."""
    seed_everything(seed, verbose=False)
    header = data.header
    network = build_network(params.model, params.candidates[candidate], header.num_outputs)
    network = network.to(memory_format=resolved.memory_format)
    check_size(network, header.height, header.width)
    check_batch(network, data.batches.batch_size, header.height, header.width)
    # Check the layer names of all phases before training.
    for phase in phases_of(params.train):
        freeze(network, phase.freeze_encoder, header.height, header.width)
    if resolved.compile:
        torch.compiler.reset()  # graphs of trials count towards the recompile limit
        network.compile()
    threshold = params.evaluate.threshold
    return Trainer(fabric, network, recipe, data, threshold, progress, resolved.cuda_graphs)


def _complete_record(record: Record, trainer: Trainer, trials: list[Trial], origin: Origin) -> None:
    """Add the results of a training to its record."""
    state = trainer.state
    save_preview(record.artifact("pictures/progress.gif"), trainer.data, state)
    record.tags |= {
        **trial_tags(trainer.recipe, trials),
        "selected_epoch": str(state.selected_epoch["epoch"]),
        "epochs": str(len(state.history)),
        "rollbacks": str(state.rollbacks),
        "ignored_images": str(trainer.data.num_ignored),
        "train_groups": str(trainer.data.num_groups),
        "images_per_epoch": str(trainer.data.batches.num_images),
        **flatten({"class_weights": class_weights_of(trainer.recipe)}),
        **flatten({"encoder": asdict(origin)}),
    }


def _write_results(
    trainer: Trainer,
    ids: dict[str, str],
    trials: list[Trial],
    origin: Origin,
    history: Path,
    run: Path,
) -> None:
    """Write the run's results for later stages, except its weights; see `train`."""
    with atomic_file(history) as file:
        pd.DataFrame(trainer.state.history).to_csv(file, index=False, lineterminator="\n")
    outcome = {
        **ids,
        "learning_rate": trainer.recipe.optimizer.learning_rate,
        "rollbacks": trainer.state.rollbacks,
        "class_weights": class_weights_of(trainer.recipe),
        "ignored_images": trainer.data.num_ignored,
        "train_groups": trainer.data.num_groups,
        "images_per_epoch": trainer.data.batches.num_images,
        "tuning": [asdict(trial) for trial in trials],
        "origin": asdict(origin),
    }
    with atomic_file(run) as file:
        file.write_text(json.dumps(outcome, indent=2) + "\n")
