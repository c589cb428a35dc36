"""`hgr1-resnet50`: the published U-Net for HGR1 on a ResNet50 that ends with its third stage.

Feature points are outputs of convolutions, before their norm.
"""

from collections.abc import Sequence

from torch import nn

from segbench.models.published.blocks import (
    BN_EPS,
    BN_MOMENTUM,
    Encoder,
    PublishedUNet,
    UpStep,
    init_as_keras,
    nearest,
)

FIRST, DEPTH = 2, 4
# Keras's conv1_conv, conv2_block3_3_conv, conv3_block3_2_conv and conv4_block6_3_conv.
FEATURE_POINTS = {
    "tu-resnet50": ("conv1", "layer1.2.conv3", "layer2.2.conv2", "layer3.5.conv3"),
}


def build(
    encoder: Encoder,
    num_outputs: int,
    decoder_channels: Sequence[int] = (512, 256, 64),
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
        convs = nn.Sequential(
            nn.Conv2d(channels + skip, channels, 3, padding=1),
            nn.Dropout(dropout),
            nn.BatchNorm2d(channels, BN_EPS, BN_MOMENTUM),
            nn.ReLU(),
        )
        return UpStep(nn.ConvTranspose2d(width, channels, 2, stride=2), convs, channels)

    def head(width: int) -> nn.Module:
        return nn.Sequential(nearest(), nn.Conv2d(width, num_outputs, 1))

    network = PublishedUNet(encoder, decoder_channels, step, head)
    init_as_keras(network.steps, network.head)
    return network
