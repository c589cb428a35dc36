"""Learning-rate search: trials before a run's training, and selection of the best.

Each seed and fold searches separately, so that their spread includes the variance of the search
(Bouthillier et al. 2021, Accounting for Variance in Machine Learning Benchmarks).
"""

import gc
import json
import shutil
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from segbench.errors import InputError
from segbench.files import atomic_file
from segbench.params import Params
from segbench.params.train import Train
from segbench.training.checkpoints import Checkpoints
from segbench.training.optim import check_steps
from segbench.training.state import TrainingState
from segbench.training.step_checks import DivergedError
from segbench.training.trainer import Progress, Trainer


@dataclass(frozen=True)
class Trial:
    """The result of a trial.

    Attributes:
        learning_rate: of the first phase.
        epochs: number started.
        val_dice_per_image: of the selected epoch; None if no image has a score or the trial
            diverged.
        diverged: whether it ended without weights.
    """

    learning_rate: float
    epochs: int
    val_dice_per_image: float | None
    diverged: bool


def recipes_to_try(params: Params) -> list[Train]:
    """Recipes of the trials: the first phase at each rate of the grid, shortened."""
    tuning, recipe = params.comparison.tuning, params.train
    if tuning is None:
        return []
    shorter = {"num_epochs": max(1, round(tuning.share * recipe.num_epochs)), "fine_tune": None}
    return [
        with_learning_rate(recipe, rate).model_copy(update=shorter)
        for rate in tuning.learning_rates
    ]


def with_learning_rate(recipe: Train, rate: float) -> Train:
    """The recipe with another learning rate.

    The rate of fine-tuning, which trials do not reach, keeps its ratio to that of the first phase.
    """
    optimizer, then = recipe.optimizer, recipe.fine_tune
    if then is not None:
        scaled = then.learning_rate * (rate / optimizer.learning_rate)
        then = then.model_copy(update={"learning_rate": scaled})
    named = optimizer.model_copy(update={"learning_rate": rate})
    return recipe.model_copy(update={"optimizer": named, "fine_tune": then})


def search_learning_rate(
    make_trainer: Callable[[Train, Progress], Trainer],
    params: Params,
    steps_per_epoch: int,
    saved: Checkpoints,
    name: str,
) -> list[Trial]:
    """Run a trial at each learning rate of the grid.

    Trials that finished before the process was killed are not repeated.

    Args:
        make_trainer: makes a new trainer for a recipe.
        params: all of them.
        steps_per_epoch: optimiser steps per epoch.
        saved: checkpoints of the run; those of trials are kept in its folder meanwhile.
        name: of the run, for the progress bar.

    Returns:
        The trials in the order of the grid; none if there is nothing to search.

    Raises:
        InputError: if a trial is too short for the schedule, or does not fit into memory.
    """
    recipes = recipes_to_try(params)
    if recipes:
        _check_length(recipes[0], steps_per_epoch)
    results, folder = saved.folder / "trials.json", saved.folder / "trials"
    trials = read_trials(results)
    for number, recipe in enumerate(recipes[len(trials) :], len(trials) + 1):
        rate = recipe.optimizer.learning_rate
        checkpoints = Checkpoints(folder, str(rate))
        trial = f"{name}, trial {number} of {len(recipes)} at {rate:g}"
        progress = Progress(trial, None, checkpoints, params.checkpoints)
        trainer = make_trainer(recipe, progress)
        trials.append(_try(trainer, checkpoints))
        if trainer.fabric.is_global_zero:
            write_trials(results, trials)
            saved.share()
        del trainer
        # Reference cycles keep device memory until they are collected.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    shutil.rmtree(folder, ignore_errors=True)
    return trials


def best_recipe(recipe: Train, trials: list[Trial]) -> Train:
    """The recipe at the learning rate with the best validation dice; unchanged without trials.

    Ties go to the lowest rate; trials without a score rank last.

    Raises:
        InputError: if all trials diverged.
    """
    if not trials:
        return recipe
    finished = [trial for trial in trials if not trial.diverged]
    if not finished:
        lowest = min(trial.learning_rate for trial in trials)
        raise InputError(
            f"comparison.tuning.learning_rates: training diverged at all {len(trials)} of them; "
            f"name some below {lowest:g}, set train.gradient_clip, or let the training roll back "
            "and continue at a lower rate: train.on_non_finite.rollbacks"
        )

    def score(trial: Trial) -> tuple[float, float]:
        dice = trial.val_dice_per_image
        return -np.inf if dice is None else dice, -trial.learning_rate

    return with_learning_rate(recipe, max(finished, key=score).learning_rate)


def trial_tags(recipe: Train, trials: list[Trial]) -> dict[str, str]:
    """Tags for the record: the trials, and the recipe's resulting learning rates."""
    if not trials:
        return {}
    rates = {"learning_rate": recipe.optimizer.learning_rate}
    if recipe.fine_tune is not None:
        rates["fine_tune_learning_rate"] = recipe.fine_tune.learning_rate
    tried = {str(trial.learning_rate): trial.val_dice_per_image for trial in trials}
    return {
        **{f"tuning.{name}": str(rate) for name, rate in rates.items()},
        "tuning.epochs": str(sum(trial.epochs for trial in trials)),
        "tuning.val_dice_per_image": json.dumps(tried),
    }


def _check_length(recipe: Train, steps_per_epoch: int) -> None:
    """Raise InputError for trials that are too short for their schedule."""
    try:
        check_steps(recipe.schedule, recipe.num_epochs * steps_per_epoch)
    except InputError as error:
        raise InputError(f"comparison.tuning.share: {error}, or raise the share") from None


def write_trials(path: Path, trials: list[Trial]) -> None:
    """Write the finished trials, below the checksum of their text."""
    text = json.dumps([asdict(trial) for trial in trials]) + "\n"
    with atomic_file(path) as partial:
        partial.write_text(f"{zlib.crc32(text.encode()):08x}\n{text}")


def read_trials(path: Path) -> list[Trial]:
    """The finished trials; none if the file is missing or, which is said, damaged."""
    if not path.exists():
        return []
    checksum, _, text = path.read_bytes().partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(text):
        print(f"warning: {path}: damaged; the trials are made again", file=sys.stderr)
        return []
    return [Trial(**trial) for trial in json.loads(text)]


def _try(trainer: Trainer, checkpoints: Checkpoints) -> Trial:
    """Run a trial to its end, resuming from its latest checkpoint."""
    rate, fabric = trainer.recipe.optimizer.learning_rate, trainer.fabric
    latest = checkpoints.load_latest()
    fabric.barrier()  # everyone has read before anyone writes
    scaler = fabric.strategy.precision.state_dict()
    try:
        trainer.run(TrainingState.from_checkpoint(latest) if latest else None)
        state = trainer.state
        dice = state.selected_epoch["val_dice_per_image"]
        trial = Trial(rate, len(state.history), None if np.isnan(dice) else dice, diverged=False)
    except DivergedError as error:
        if fabric.is_global_zero:
            said = f"learning rate {rate:g} discarded: {error.found}"
            print(f"warning: comparison.tuning: {said}", file=sys.stderr)
        trial = Trial(rate, trainer.state.epoch + 1, None, diverged=True)
    # Only the gradient scaler of 16-mixed would carry state over to the next trial.
    fabric.strategy.precision.load_state_dict(scaler)
    fabric.barrier()  # the last checkpoint is written before anyone removes it
    return trial
