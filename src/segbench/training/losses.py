"""Losses by name, from segmentation-models-pytorch and torch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor, nn

from segbench.errors import InputError
from segbench.images import IGNORE
from segbench.params.section import did_you_mean
from segbench.params.train import LossTerm, Train


class WeightedLoss(nn.Module):
    """A weighted sum of losses; 0 and without gradient where all pixels of a batch are ignored.

    Args:
        terms: by name, the weight of each loss, or its weight and arguments.
        num_outputs: channels of the logits; 1 means one class against the background, by a
            sigmoid. With several, all classes are learnt alike, the background too.

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
            arguments = given.model_extra or {}
            if arguments.get("class_weights") is not None:
                _check_class_weights(name, arguments["class_weights"], max(2, num_outputs))
            try:
                self.losses.append(kinds[name](**arguments))
            except (TypeError, ValueError) as error:
                raise InputError(f"train.loss.{name}: {error}; fix its arguments") from None

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of logits (N, C, H, W) against class ids (N, H, W), a scalar in float32."""
        logits, mask = logits.float(), mask.long()
        # Some losses are no number without a pixel that counts. Not by a branch on the host, which
        # would have to wait for the device.
        any_counts = (mask != IGNORE).any()
        mask = torch.where(any_counts, mask, 0)
        if self.binary:
            mask = mask.unsqueeze(1)
        total = torch.zeros((), device=logits.device)
        for weight, loss in zip(self.weights, self.losses, strict=True):
            # BCE needs float targets; the others accept them.
            target = mask.float() if isinstance(loss, smp_losses.SoftBCEWithLogitsLoss) else mask
            total = total + weight * loss(logits, target)
        return total * any_counts


def with_class_weights(recipe: Train, pixels: Callable[[], NDArray[np.int64]]) -> Train:
    """The recipe with numbers in place of `class_weights: auto`.

    A class weighs the mean number of pixels of a class over its own number, so that all classes
    together weigh the same; one without pixels weighs 1, which no pixel asks for.

    Args:
        recipe: the section `train`.
        pixels: counts the training pixels of each class, by id; called if needed.
    """
    terms = dict(recipe.loss)
    for name, term in terms.items():
        if (
            not isinstance(term, LossTerm)
            or (term.model_extra or {}).get("class_weights") != "auto"
        ):
            continue
        counts = pixels()
        weights = np.where(counts > 0, counts.sum() / (len(counts) * np.maximum(counts, 1)), 1.0)
        rounded = [float(f"{weight:.4g}") for weight in weights]
        terms[name] = term.model_copy(update={"class_weights": rounded})
    return recipe.model_copy(update={"loss": terms})


def class_weights_of(recipe: Train) -> dict[str, list[float]]:
    """The class weights of each loss that has some."""
    given = {
        name: (term.model_extra or {}).get("class_weights")
        for name, term in recipe.loss.items()
        if isinstance(term, LossTerm)
    }
    return {name: weights for name, weights in given.items() if weights is not None}


def _check_class_weights(name: str, weights: Any, num_classes: int) -> None:
    """Raise InputError unless there is a positive number for each class."""
    fits = isinstance(weights, list) and len(weights) == num_classes
    if not fits or not all(isinstance(one, int | float) and one > 0 for one in weights):
        raise InputError(
            f"train.loss.{name}.class_weights: {weights} are not {num_classes} positive numbers, "
            "one for each class in the order of their ids; fix the list or set auto"
        )


class _BCE(smp_losses.SoftBCEWithLogitsLoss):  # type: ignore[misc]
    """smp's, with weights of background and foreground, or of the foreground alone."""

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        pos_weight: float | None = None,
        **arguments: Any,
    ) -> None:
        if class_weights is not None and pos_weight is not None:
            raise ValueError("class_weights and pos_weight are the same; set one of them")
        scale, ratio = 1.0, pos_weight
        if class_weights is not None:
            scale, ratio = class_weights[0], class_weights[1] / class_weights[0]
        super().__init__(
            pos_weight=None if ratio is None else torch.tensor(float(ratio)), **arguments
        )
        self.scale = scale

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        loss: Tensor = super().forward(logits, mask)
        return loss * self.scale


class _BinaryFocal(smp_losses.FocalLoss):  # type: ignore[misc]
    """smp's, with weights of background and foreground."""

    def __init__(self, class_weights: Sequence[float] | None = None, **arguments: Any) -> None:
        if class_weights is not None:
            arguments["reduction"] = "none"
        super().__init__("binary", **arguments)
        self.of_class: Tensor | None
        weights = (
            None if class_weights is None else torch.tensor([float(one) for one in class_weights])
        )
        self.register_buffer("of_class", weights)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        loss: Tensor = super().forward(logits, mask)
        if self.of_class is None:
            return loss
        return (loss * self.of_class[mask[mask != IGNORE]]).mean()


class _Lovasz(smp_losses.LovaszLoss):  # type: ignore[misc]
    """smp's, which fails on an image without a pixel that counts if it takes each alone."""

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        if self.per_image:
            counted = (mask != IGNORE).flatten(1).any(dim=1)
            logits, mask = logits[counted], mask[counted]
        loss: Tensor = super().forward(logits, mask)
        return loss


def _cross_entropy(class_weights: Sequence[float] | None = None, **arguments: Any) -> nn.Module:
    """torch's cross-entropy, a mean that weighs each pixel by its class."""
    if class_weights is not None:
        arguments["weight"] = torch.tensor([float(one) for one in class_weights])
    return nn.CrossEntropyLoss(**arguments)


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
        "lovasz": partial(_Lovasz, mode),
        "focal": partial(smp_losses.FocalLoss, mode),
    }
    if mode == "binary":
        ignoring |= {"bce": _BCE, "focal": _BinaryFocal}
    else:
        ignoring["ce"] = _cross_entropy
    kinds: dict[str, Callable[..., nn.Module]] = {
        name: partial(kind, ignore_index=IGNORE) for name, kind in ignoring.items()
    }
    return {**kinds, "mcc": _MCC} if mode == "binary" else kinds
