"""Test-time augmentation by flips."""

import torch
from torch import Tensor, nn


class FlipAveraged(nn.Module):
    """Averages a network's logits over an image and its three mirror images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Averaged logits: (N, C, H, W) to (N, num_outputs, H, W)."""
        axes: tuple[list[int], ...] = ([], [2], [3], [2, 3])
        logits = [self.network(images.flip(turned)).flip(turned) for turned in axes]
        return torch.stack(logits).mean(dim=0)
