"""Losses by name, from segmentation-models-pytorch and torch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor, nn

from segbench.errors import InputError
from segbench.images import IGNORE
from segbench.params.section import did_you_mean
from segbench.params.train import LossTerm


class WeightedLoss(nn.Module):
    """A weighted sum of losses.

    Args:
        terms: by name, the weight of each loss, or its weight and arguments.
        num_outputs: channels of the logits; 1 means one foreground class with a sigmoid.

    Raises:
        InputError: for a name that is unknown or does not fit `num_outputs`, and for arguments that
            a loss does not take.
    """

    def __init__(self, terms: dict[str, float | LossTerm], num_outputs: int) -> None:
        super().__init__()
        self.binary = num_outputs == 1
        mode = "binary" if self.binary else "multiclass"
        kinds = _kinds(mode)
        unknown = sorted(set(terms) - set(kinds))
        if unknown:
            raise InputError(
                f"train.loss: no {mode} loss named {', '.join(unknown)}"
                f"{did_you_mean(unknown[0], kinds)}; take from {', '.join(kinds)}"
            )
        self.weights = []
        self.losses = nn.ModuleList()
        for name, term in terms.items():
            given = term if isinstance(term, LossTerm) else LossTerm(weight=term)
            self.weights.append(given.weight)
            try:
                self.losses.append(kinds[name](**(given.model_extra or {})))
            except (TypeError, ValueError) as error:
                raise InputError(f"train.loss.{name}: {error}; fix its arguments") from None

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of logits (N, C, H, W) against class ids (N, H, W), a scalar in float32."""
        logits, mask = logits.float(), mask.long()
        if self.binary:
            mask = mask.unsqueeze(1)
        total = torch.zeros((), device=logits.device)
        for weight, loss in zip(self.weights, self.losses, strict=True):
            # BCE needs float targets; the others accept them.
            target = mask.float() if isinstance(loss, smp_losses.SoftBCEWithLogitsLoss) else mask
            total = total + weight * loss(logits, target)
        return total


class _MCC(smp_losses.MCCLoss):  # type: ignore[misc]
    """smp's MCC loss, which takes probabilities; ignored pixels count as true negatives."""

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        kept = mask != IGNORE
        loss: Tensor = super().forward(logits.sigmoid() * kept, mask * kept)
        return loss


def _dice(mode: str, smooth: float = 0.0, **arguments: Any) -> nn.Module:
    """1 - (2TP + smooth) / (2TP + FP + FN + smooth) over the pixels of a batch, as published.

    smp uses (TP + smooth) / (TP + (FP + FN) / 2 + smooth), which counts smooth twice, and gives 0
    for a batch without a pixel of the class, whatever is predicted.
    """
    loss: nn.Module = smp_losses.DiceLoss(mode, smooth=smooth / 2, **arguments)
    return loss


def _kinds(mode: str) -> dict[str, Callable[..., nn.Module]]:
    ignoring: dict[str, Any] = {
        "dice": partial(_dice, mode),
        "jaccard": partial(smp_losses.JaccardLoss, mode),
        "tversky": partial(smp_losses.TverskyLoss, mode),
        "lovasz": partial(smp_losses.LovaszLoss, mode),
        "focal": partial(smp_losses.FocalLoss, mode),
    }
    if mode == "binary":
        ignoring["bce"] = smp_losses.SoftBCEWithLogitsLoss
    else:
        ignoring["ce"] = nn.CrossEntropyLoss
    kinds: dict[str, Callable[..., nn.Module]] = {
        name: partial(kind, ignore_index=IGNORE) for name, kind in ignoring.items()
    }
    return {**kinds, "mcc": _MCC} if mode == "binary" else kinds
