"""Synchronised batch norm, so that runs agree between one device and several.

On CUDA it is torch's, inserted by timm; torch has none for the CPU.
"""

import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from segbench.errors import InputError
from segbench.training.distributed import all_reduce_sum


def synchronise_batch_norm(network: nn.Module) -> None:
    """Replace every batch norm in a network by a synchronised one, in place."""
    if next(network.parameters()).is_cuda:
        convert_sync_batchnorm(network)
        return
    for module in network.modules():
        if type(module) is BatchNormAct2d:
            module.__class__ = _GlobalBatchNormAct
        elif type(module) is nn.BatchNorm2d:
            module.__class__ = _GlobalBatchNorm
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise InputError(
                f"hardware.devices: {type(module).__name__} cannot be synchronised between CPU "
                "processes; set 1, or train on CUDA"
            )


class _GlobalBatchNorm(nn.BatchNorm2d):
    """Normalise (N, C, H, W) of this process with moments over all processes."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        own = input.float()
        axes = (0, 2, 3)
        size = torch.full((1,), own.numel() / own.shape[1], device=own.device)
        mean = all_reduce_sum(torch.cat([own.sum(axes), size]))
        count, mean = mean[-1], mean[:-1] / mean[-1]
        centred = own - mean[:, None, None]
        variance = all_reduce_sum(centred.square().sum(axes)) / count
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            share = self.momentum or 1.0 / float(self.num_batches_tracked)
            unbiased = variance * (count / (count - 1))
            for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
                assert running is not None
                running.lerp_(new, share)
        normal = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class _GlobalBatchNormAct(BatchNormAct2d):  # type: ignore[misc]
    """Synchronised version of timm's batch norm with built-in dropout and activation."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return self.act(self.drop(_GlobalBatchNorm.forward(self, x)))
