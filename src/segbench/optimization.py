"""Optimisation: optimisers and learning-rate schedules of torch, by name."""

from typing import Any

import torch

from segbench.errors import InputError
from segbench.params import Optimizer, Schedule


def make_optimizer(network: torch.nn.Module, params: Optimizer) -> torch.optim.Optimizer:
    """The torch optimiser that the params name.

    Raises:
        InputError: for an argument that it does not take.
    """
    kinds: dict[str, type[torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "nadam": torch.optim.NAdam,
        "rmsprop": torch.optim.RMSprop,
        "sgd": torch.optim.SGD,
    }
    common = {"lr": params.learning_rate, "weight_decay": params.weight_decay}
    try:
        return kinds[params.name](network.parameters(), **{**common, **params.args})  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise InputError(f"train.optimizer.args: {params.name} says: {error}; fix them") from None


def make_schedule(
    optimizer: torch.optim.Optimizer, params: Schedule, rate: Optimizer, total_steps: int
) -> dict[str, Any]:
    """The learning-rate schedule that the params name, as Lightning takes it."""
    schedulers = torch.optim.lr_scheduler
    warmup = max(1, round(params.warmup_share * total_steps)) if params.warmup_share else 0
    scheduler: Any
    match params.name:
        case "constant":
            return {}
        case "plateau":
            scheduler = schedulers.ReduceLROnPlateau(
                optimizer, factor=params.factor, patience=params.patience
            )
            return {"lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}
        case "one_cycle":
            if total_steps < 4:
                raise InputError(
                    f"train.schedule: one_cycle needs at least 4 steps, this run has "
                    f"{total_steps}; train longer, use smaller batches or another schedule"
                )
            scheduler = schedulers.OneCycleLR(
                optimizer,
                rate.learning_rate,
                total_steps=total_steps,
                pct_start=max(warmup, 2) / total_steps,
            )
        case "cosine":
            falling = schedulers.CosineAnnealingLR(optimizer, max(1, total_steps - warmup))
            scheduler = falling
            if warmup:
                rising = schedulers.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
                scheduler = schedulers.SequentialLR(optimizer, [rising, falling], [warmup])
    return {"lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
