"""`pet-mobilenetv2`: the published U-Net for Oxford-IIIT Pet on a MobileNetV2.

The decoder convolves in its transposed convolutions only. Feature points are the ReLU6 after the
expansion of an inverted residual block, and at the bottom the projection of the last block before
its norm.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from segbench.models.published.blocks import (
    BN_EPS,
    BN_MOMENTUM,
    Encoder,
    PublishedUNet,
    UpStep,
    init_as_keras,
)

FIRST, DEPTH = 2, 5
# Keras's block_1, block_3, block_6 and block_13, each its expand_relu, and block_16_project.
POINTS = (
    *("blocks.1.0.bn1", "blocks.2.0.bn1", "blocks.3.0.bn1", "blocks.5.0.bn1"),
    "blocks.6.0.conv_pwl",
)
FEATURE_POINTS = {
    f"tu-mobilenetv2_{width}": POINTS for width in ("035", "050", "075", "100", "140")
}
INIT_STD = 0.02


class SameTransposed(nn.ConvTranspose2d):
    """Keras's 3x3 transposed convolution of stride 2 with "same" padding: the end is cut off."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(N, C, H, W) to (N, D, 2H, 2W)."""
        return super().forward(x)[..., :-1, :-1]


def build(
    encoder: Encoder,
    num_outputs: int,
    decoder_channels: Sequence[int] = (512, 256, 128, 64),
    dropout: float = 0.0,
) -> PublishedUNet:
    """The network around an encoder.

    Args:
        encoder: of features as `FIRST` and `DEPTH` ask for.
        num_outputs: channels of the logits.
        decoder_channels: of the steps, from the coarsest to the finest.
        dropout: probability in each step.
    """

    def step(width: int, skip: int, channels: int) -> UpStep:
        conv = nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1, bias=False)
        nn.init.normal_(conv.weight, std=INIT_STD)
        norm = nn.BatchNorm2d(channels, BN_EPS, BN_MOMENTUM)
        up = nn.Sequential(conv, norm, nn.Dropout(dropout), nn.ReLU())
        return UpStep(up, nn.Identity(), channels + skip)

    def head(width: int) -> nn.Module:
        return SameTransposed(width, num_outputs)

    network = PublishedUNet(encoder, decoder_channels, step, head)
    init_as_keras(network.head)
    return network
