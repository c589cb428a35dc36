"""Distributed training: launch and collective operations.

Each process computes the loss of the whole batch from gathered tensors. After
DistributedDataParallel has averaged gradients, they equal those of a single process.
"""

import logging
import warnings
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx

from segbench.devices import ResolvedHardware


def make_fabric(resolved: ResolvedHardware) -> Fabric:
    """Launch Lightning Fabric, which handles devices, precision and processes."""
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    # Caused by Lightning's own code.
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    fabric = Fabric(
        accelerator={"cuda": "gpu"}.get(resolved.device, resolved.device),
        devices=resolved.devices,
        strategy=resolved.strategy,
        precision=resolved.precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def all_gather_cat(tensor: Tensor) -> Tensor:
    """Concatenate tensors (N, ...) of all P processes, with gradients: (P x N, ...)."""
    gathered: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, with gradients."""
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


def gather_objects(rows: list[Any]) -> list[Any]:
    """Concatenate lists of all processes."""
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
