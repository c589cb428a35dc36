"""Checks of a training step that the host does not wait for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from segbench.errors import InputError


class DivergedError(InputError):
    """A loss or a gradient is not finite, and the training may not roll back any more.

    Attributes:
        found: what was seen, without the way out.
    """

    def __init__(self, found: str, way_out: str) -> None:
        super().__init__(f"{found}; {way_out}")
        self.found = found


@dataclass(frozen=True)
class PendingCheck:
    """Whether a step's loss and gradients are finite, on its way from the device.

    Attributes:
        step: which step of its epoch.
        learning_rate: it was done with, of the first parameter group.
    """

    step: int
    learning_rate: float
    _finite: Tensor
    _copied: torch.cuda.Event | None

    @classmethod
    def start(cls, watched: Tensor, step: int, learning_rate: float) -> Self:
        """Queue the copy of what is watched.

        Args:
            watched: the loss, alone or with a number that is finite only if all gradients are.
            step, learning_rate: see the attributes.
        """
        finite = torch.isfinite(watched).to("cpu", non_blocking=True)
        copied = torch.cuda.current_stream().record_event() if watched.is_cuda else None
        return cls(step, learning_rate, finite, copied)

    def not_finite(self) -> str | None:
        """Wait for the copy; `the loss`, `a gradient`, or None if all is finite."""
        if self._copied is not None:
            self._copied.synchronize()
        if bool(self._finite.all()):
            return None
        return "a gradient" if self._finite.flatten()[0] else "the loss"


def finite_only_if_all(gradients: Sequence[Tensor]) -> Tensor:
    """A number that is finite only if all gradients are, on their device."""
    if gradients[0].is_cuda:
        return nn.utils.get_total_norm(gradients)  # a few kernels for all of them
    return torch.stack([gradient.sum() for gradient in gradients]).sum()  # half the time of a norm
