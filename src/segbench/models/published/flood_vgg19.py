"""`flood-vgg19`: the published U-Net for Flood Area on a VGG19; no batch norm.

Feature points are the last ReLU of each resolution.
"""

from collections.abc import Sequence

from torch import nn

from segbench.models.published.blocks import Encoder, PublishedUNet, UpStep, double_conv

FIRST, DEPTH = 1, 4
FEATURE_POINTS = {
    "tu-vgg19": ("features.3", "features.8", "features.17", "features.26", "features.35"),
}


def build(
    encoder: Encoder,
    num_outputs: int,
    decoder_channels: Sequence[int] = (512, 256, 128, 64),
    dropout: float = 0.25,
) -> PublishedUNet:
    """The network around an encoder.

    Args:
        encoder: of features as `FIRST` and `DEPTH` ask for.
        num_outputs: channels of the logits.
        decoder_channels: of the steps, from the coarsest to the finest.
        dropout: probability in each step.
    """

    def step(width: int, skip: int, channels: int) -> UpStep:
        up = nn.ConvTranspose2d(width, channels, 2, stride=2)
        convs = double_conv(channels + skip, channels, norm=False)
        return UpStep(up, nn.Sequential(*convs, nn.Dropout2d(dropout)), channels)

    def head(width: int) -> nn.Module:
        return nn.Conv2d(width, num_outputs, 3, padding=1)

    return PublishedUNet(encoder, decoder_channels, step, head)
