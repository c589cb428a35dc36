"""`isbi-unet`: the 2015 U-Net with "same" padding, as published for ISBI 2012; no batch norm.

With the encoder `unet` it is the whole original; its decoder takes any other encoder too.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from segbench.models.published.blocks import (
    Encoder,
    PublishedUNet,
    UpStep,
    double_conv,
    init_as_keras,
    nearest,
)
from segbench.models.published.contracting import ContractingPath

FIRST, DEPTH = 1, 4
FEATURE_POINTS: dict[str, tuple[str, ...]] = {}


def build(
    encoder: Encoder, num_outputs: int, decoder_channels: Sequence[int] = (512, 256, 128, 64)
) -> PublishedUNet:
    """The network around an encoder.

    Args:
        encoder: of features as `FIRST` and `DEPTH` ask for.
        num_outputs: channels of the logits.
        decoder_channels: of the steps, from the coarsest to the finest.
    """

    def step(width: int, skip: int, channels: int) -> UpStep:
        up = nn.Sequential(nearest(), nn.Conv2d(width, channels, 3, padding=1), nn.ReLU())
        return UpStep(up, double_conv(channels + skip, channels, norm=False), channels)

    def head(width: int) -> nn.Module:
        return nn.Conv2d(width, num_outputs, 1)

    network = PublishedUNet(encoder, decoder_channels, step, head)
    _init(network)
    return network


def _init(network: PublishedUNet) -> None:
    """He-normal for the first of each pair, what enlarges, and the coarsest level; else Glorot."""
    init_as_keras(network.steps, network.head)
    steps: Any = network.steps
    he = [conv for step in steps for conv in (step.up[1], step.convs[0])]
    body: Any = network.encoder.body
    if isinstance(body, ContractingPath):
        init_as_keras(body)
        levels: Any = body.levels
        he += [*(level[0] for level in levels), levels[-1][2]]
    for conv in he:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
