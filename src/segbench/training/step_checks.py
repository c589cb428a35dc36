"""Asynchronous checks that loss and gradients are finite."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from segbench.errors import InputError


class DivergedError(InputError):
    """A loss or gradient is not finite, and no rollbacks are left.

    Attributes:
        found: the message without its advice.
    """

    def __init__(self, found: str, way_out: str) -> None:
        super().__init__(f"{found}; {way_out}")
        self.found = found


@dataclass(frozen=True)
class PendingCheck:
    """Result of a check that is still being copied from the device.

    Attributes:
        step: index of the step in its epoch.
        learning_rate: of that step, in the first parameter group.
    """

    step: int
    learning_rate: float
    _finite: Tensor
    _copied: torch.cuda.Event | None

    @classmethod
    def start(cls, watched: Tensor, step: int, learning_rate: float) -> Self:
        """Start copying the values to check.

        Args:
            watched: the loss, optionally with a number that is finite only if all gradients are.
            step, learning_rate: see the attributes.
        """
        finite = torch.isfinite(watched).to("cpu", non_blocking=True)
        copied = torch.cuda.current_stream().record_event() if watched.is_cuda else None
        return cls(step, learning_rate, finite, copied)

    def not_finite(self) -> str | None:
        """Wait for the copy; return what is not finite, `the loss` or `a gradient`, or None."""
        if self._copied is not None:
            self._copied.synchronize()
        if bool(self._finite.all()):
            return None
        return "a gradient" if self._finite.flatten()[0] else "the loss"


def finite_only_if_all(gradients: Sequence[Tensor]) -> Tensor:
    """A scalar on the device that is finite only if all gradients are."""
    if gradients[0].is_cuda:
        return nn.utils.get_total_norm(gradients)  # a few kernels for all tensors
    return torch.stack([gradient.sum() for gradient in gradients]).sum()  # half the time of a norm
