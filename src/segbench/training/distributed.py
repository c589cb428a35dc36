"""Processes: how they start, and what several that train together know of each other.

A loss that is the same in all of them, of tensors gathered here, has the gradient of one process
with the whole batch once DistributedDataParallel has averaged what they found.
"""

import logging
import warnings
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx

from segbench.devices import Resolved


def make_fabric(resolved: Resolved) -> Fabric:
    """Lightning's hold on devices, precision and processes, which it starts."""
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Lightning's own use of torch.
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    fabric = Fabric(
        accelerator={"cuda": "gpu"}.get(resolved.device, resolved.device),
        devices=resolved.devices,
        strategy=resolved.strategy,
        precision=resolved.precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def of_all(tensor: Tensor) -> Tensor:
    """Tensors (N, ...) of all processes, one behind the other: (M x N, ...)."""
    gathered: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


def sum_of_all(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


def rows_of_all(rows: list[Any]) -> list[Any]:
    """Lists of all processes as one."""
    everyone: list[list[Any]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(everyone, rows)
    return [row for theirs in everyone for row in theirs]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        everyone = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(everyone, tensor.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
