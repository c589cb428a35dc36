"""Losses by name, from segmentation-models-pytorch and torch."""

import torch
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor, nn

from segbench.errors import InputError
from segbench.params.section import did_you_mean
from segbench.samples import IGNORE


class WeightedLoss(nn.Module):
    """A weighted sum of losses.

    Args:
        terms: weight of each loss by its name.
        num_outputs: channels of the logits; 1 means one foreground class through a sigmoid.

    Raises:
        InputError: for a name that is unknown or does not go with `num_outputs`.
    """

    def __init__(self, terms: dict[str, float], num_outputs: int) -> None:
        super().__init__()
        self.binary = num_outputs == 1
        mode = "binary" if self.binary else "multiclass"
        kinds = {
            "dice": lambda: smp_losses.DiceLoss(mode, ignore_index=IGNORE),
            "tversky": lambda: smp_losses.TverskyLoss(mode, ignore_index=IGNORE),
            "lovasz": lambda: smp_losses.LovaszLoss(mode, ignore_index=IGNORE),
            "focal": lambda: smp_losses.FocalLoss(mode, ignore_index=IGNORE),
        }
        if self.binary:
            kinds["bce"] = lambda: smp_losses.SoftBCEWithLogitsLoss(ignore_index=IGNORE)
        else:
            kinds["ce"] = lambda: nn.CrossEntropyLoss(ignore_index=IGNORE)
        unknown = sorted(set(terms) - set(kinds))
        if unknown:
            raise InputError(
                f"train.loss: no {mode} loss named {', '.join(unknown)}"
                f"{did_you_mean(unknown[0], kinds)}; take from {', '.join(kinds)}"
            )
        self.weights = list(terms.values())
        self.losses = nn.ModuleList(kinds[name]() for name in terms)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of logits (N, C, H, W) against class ids (N, H, W), a scalar in float32."""
        logits, mask = logits.float(), mask.long()
        if self.binary:
            mask = mask.unsqueeze(1)
        total = torch.zeros((), device=logits.device)
        for weight, loss in zip(self.weights, self.losses, strict=True):
            # BCE is the one that wants its target as floats; to the others it makes no difference.
            target = mask.float() if isinstance(loss, smp_losses.SoftBCEWithLogitsLoss) else mask
            total = total + weight * loss(logits, target)
        return total
