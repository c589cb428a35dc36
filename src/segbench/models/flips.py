"""Averaging over an image and its mirror images."""

import torch
from torch import Tensor, nn


class FlipAveraged(nn.Module):
    """A network that looks at an image and at its three mirror images, and averages the logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """As the network: (N, C, H, W) to (N, num_outputs, H, W)."""
        axes: tuple[list[int], ...] = ([], [2], [3], [2, 3])
        logits = [self.network(images.flip(turned)).flip(turned) for turned in axes]
        return torch.stack(logits).mean(dim=0)
