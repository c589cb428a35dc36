"""Optimisers, learning-rate schedules and gradient clipping of torch, by name."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from segbench.errors import InputError
from segbench.params.section import did_you_mean
from segbench.params.train import GradientClip, Optimizer, Schedule

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name.lower(): kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type)
    and issubclass(kind, torch.optim.Optimizer)
    # Except those that need a closure or sparse gradients.
    and kind not in (torch.optim.Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam)
}
"""The optimisers of torch, by their name in lower case."""


def make_optimizer(
    network: nn.Module, params: Optimizer, learning_rate: float
) -> torch.optim.Optimizer:
    """Build the optimiser over all weights that are not frozen.

    Args:
        network: the network to train.
        params: its name and arguments.
        learning_rate: of the phase.

    Raises:
        InputError: for a name that torch does not have, or an argument that it does not take.
    """
    if params.name not in OPTIMIZERS:
        raise InputError(
            f"train.optimizer.name: torch has no optimiser '{params.name}'"
            f"{did_you_mean(params.name, OPTIMIZERS)}; take from {', '.join(sorted(OPTIMIZERS))}"
        )
    common = {"lr": learning_rate, "weight_decay": params.weight_decay}
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        return OPTIMIZERS[params.name](learning, **{**common, **params.args})  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise InputError(f"train.optimizer.args: {params.name}: {error}; fix them") from None


def clip_gradients(parameters: Iterable[nn.Parameter], params: GradientClip) -> None:
    """Clip gradients in place: by global norm, by each parameter's norm, or by value."""
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    match params.by:
        case "global_norm":
            nn.utils.clip_grad_norm_(learning, params.limit)
        case "parameter_norm":
            for parameter in learning:
                nn.utils.clip_grad_norm_(parameter, params.limit)
        case "value":
            nn.utils.clip_grad_value_(learning, params.limit)


def check_steps(params: Schedule, total_steps: int) -> None:
    """Raise InputError for a run that is too short for its schedule."""
    if params.name == "one_cycle" and total_steps < 4:
        raise InputError(
            f"train.schedule: one_cycle needs at least 4 steps, this run has {total_steps}; train "
            "longer, use smaller batches or another schedule"
        )


def make_schedule(
    optimizer: torch.optim.Optimizer, params: Schedule, learning_rate: float, total_steps: int
) -> Any:
    """Build the learning-rate schedule; None if the rate is constant.

    `plateau` steps on the validation loss after each epoch, the others after each batch.
    """
    schedulers = torch.optim.lr_scheduler
    warmup = max(1, round(params.warmup_share * total_steps)) if params.warmup_share else 0
    match params.name:
        case "constant":
            return None
        case "plateau":
            return schedulers.ReduceLROnPlateau(
                optimizer, factor=params.factor, patience=params.patience
            )
        case "one_cycle":
            return schedulers.OneCycleLR(
                optimizer,
                learning_rate,
                total_steps=total_steps,
                pct_start=max(warmup, 2) / total_steps,
            )
        case "cosine":
            falling = schedulers.CosineAnnealingLR(optimizer, max(1, total_steps - warmup))
            if not warmup:
                return falling
            rising = schedulers.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
            return schedulers.SequentialLR(optimizer, [rising, falling], [warmup])
