"""`cvc-mobilenetv2`: the published U-Net for CVC-ClinicDB on a MobileNetV2 of width 0.35.

Feature points are the ReLU6 after the expansion of an inverted residual block, and the image
itself.
"""

from collections.abc import Sequence

from torch import nn

from segbench.models.published.blocks import (
    Encoder,
    PublishedUNet,
    UpStep,
    double_conv,
    init_as_keras,
    nearest,
)

FIRST, DEPTH = 1, 4
# Keras's block_1, block_3, block_6 and block_13, each its expand_relu.
POINTS = ("blocks.1.0.bn1", "blocks.2.0.bn1", "blocks.3.0.bn1", "blocks.5.0.bn1")
FEATURE_POINTS = {
    f"tu-mobilenetv2_{width}": POINTS for width in ("035", "050", "075", "100", "140")
}


def build(
    encoder: Encoder, num_outputs: int, decoder_channels: Sequence[int] = (64, 48, 32, 16)
) -> PublishedUNet:
    """The network around an encoder.

    Args:
        encoder: of features as `FIRST` and `DEPTH` ask for.
        num_outputs: channels of the logits.
        decoder_channels: of the steps, from the coarsest to the finest.
    """

    def step(width: int, skip: int, channels: int) -> UpStep:
        return UpStep(nearest(), double_conv(width + skip, channels, norm=True), channels)

    def head(width: int) -> nn.Module:
        return nn.Conv2d(width, num_outputs, 1)

    network = PublishedUNet(encoder, decoder_channels, step, head)
    init_as_keras(network.steps, network.head)
    return network
