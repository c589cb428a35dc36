"""Tuning: learning rates that a run tries before it is trained, and which of them it takes.

Each seed and fold tunes for itself, so that the spread over them has what the choice adds to it
(Bouthillier et al. 2021, Accounting for Variance in Machine Learning Benchmarks).
"""

import gc
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from segbench.arrays.batches import PlainBatches, TrainBatches
from segbench.errors import InputError
from segbench.files import whole_file
from segbench.params import Params
from segbench.params.train import Train
from segbench.training.checkpoints import Checkpoints
from segbench.training.optim import check_steps
from segbench.training.trainer import DivergedError, Fit


@dataclass(frozen=True)
class Trial:
    """What a learning rate came to.

    Attributes:
        learning_rate: of the first phase.
        epochs: how many were begun.
        val_dice_per_image: of the epoch whose weights are kept; None where no image has a score,
            and of a trial that diverged.
        diverged: did it end without weights?
    """

    learning_rate: float
    epochs: int
    val_dice_per_image: float | None
    diverged: bool


def recipes_to_try(params: Params) -> list[Train]:
    """The recipe at each rate of the grid: its first phase, over a share of the epochs."""
    tuning, recipe = params.comparison.tuning, params.train
    if tuning is None:
        return []
    shorter = {"num_epochs": max(1, round(tuning.share * recipe.num_epochs)), "fine_tune": None}
    return [at_rate(recipe, rate).model_copy(update=shorter) for rate in tuning.learning_rates]


def at_rate(recipe: Train, rate: float) -> Train:
    """The recipe as if it had named that rate.

    The rate of fine-tuning keeps its ratio to that of the first phase: trials do not reach it.
    """
    optimizer, then = recipe.optimizer, recipe.fine_tune
    if then is not None:
        scaled = then.learning_rate * (rate / optimizer.learning_rate)
        then = then.model_copy(update={"learning_rate": scaled})
    named = optimizer.model_copy(update={"learning_rate": rate})
    return recipe.model_copy(update={"optimizer": named, "fine_tune": then})


def try_rates(
    start: Callable[[Train], Fit],
    params: Params,
    batches: TrainBatches,
    val: PlainBatches,
    saved: Checkpoints,
    name: str,
) -> list[Trial]:
    """Train at each rate for a while. What was tried before the process was killed stays tried.

    Args:
        start: gives a training of a recipe, before its first step.
        params: all of them.
        batches: to train on.
        val: to validate on.
        saved: of the run; a trial's own lie within, until it is over.
        name: of the run, for the progress bar.

    Returns:
        The trials in the order of the grid; none if nothing is to be tuned.

    Raises:
        InputError: if a trial is too short for the schedule, or does not fit into memory.
    """
    recipes = recipes_to_try(params)
    if recipes:
        _check_length(recipes[0], len(batches))
    results, folder = saved.own / "trials.json", saved.own / "trials"
    trials = _read(results)
    for recipe in recipes[len(trials) :]:
        rate = recipe.optimizer.learning_rate
        checkpoints = Checkpoints(folder, str(rate))
        fit = start(recipe)
        fit.bind(f"{name} at {rate:g}", None, checkpoints, params.checkpoints)
        trials.append(_try(fit, batches, val, checkpoints))
        if fit.fabric.is_global_zero:
            with whole_file(results) as partial:
                partial.write_text(json.dumps([asdict(trial) for trial in trials]) + "\n")
        del fit
        # Parts that refer to each other wait for the collector, and their memory with them.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    shutil.rmtree(folder, ignore_errors=True)
    return trials


def tuned(recipe: Train, trials: list[Trial]) -> Train:
    """The recipe at the rate with the best validation dice; as it is without trials.

    Of rates that score the same the lowest is taken; no score is the worst.

    Raises:
        InputError: if all diverged.
    """
    if not trials:
        return recipe
    ended = [trial for trial in trials if not trial.diverged]
    if not ended:
        lowest = min(trial.learning_rate for trial in trials)
        raise InputError(
            f"comparison.tuning.learning_rates: training diverged at all {len(trials)} of them; "
            f"name some below {lowest:g}, set train.gradient_clip, or let it go back and on at a "
            "lower rate: train.on_non_finite.rewinds"
        )

    def merit(trial: Trial) -> tuple[float, float]:
        dice = trial.val_dice_per_image
        return -np.inf if dice is None else dice, -trial.learning_rate

    return at_rate(recipe, max(ended, key=merit).learning_rate)


def tags_of(recipe: Train, trials: list[Trial]) -> dict[str, str]:
    """What the record says of the trials and of the rates that the recipe has by them."""
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


def _read(path: Path) -> list[Trial]:
    """The trials that are over."""
    return [Trial(**trial) for trial in json.loads(path.read_text())] if path.exists() else []


def _try(fit: Fit, batches: TrainBatches, val: PlainBatches, checkpoints: Checkpoints) -> Trial:
    """Run a trial to its end, from where it stands."""
    rate, fabric = fit.params.optimizer.learning_rate, fit.fabric
    state = checkpoints.newest()
    fabric.barrier()  # all have read before one writes
    scaler = fabric.strategy.precision.state_dict()
    try:
        fit.run(batches, val, state=state)
        dice = fit.kept["val_dice_per_image"]
        trial = Trial(rate, len(fit.history), None if np.isnan(dice) else dice, diverged=False)
    except DivergedError as error:
        if fabric.is_global_zero:
            said = f"learning rate {rate:g} loses: {error.found}"
            print(f"warning: comparison.tuning: {said}", file=sys.stderr)
        trial = Trial(rate, fit.epoch + 1, None, diverged=True)
    # Of 16-mixed, all that a trial would hand on to the next.
    fabric.strategy.precision.load_state_dict(scaler)
    fabric.barrier()  # the last checkpoint is written before anyone removes it
    return trial
