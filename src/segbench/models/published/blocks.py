"""What the published U-Nets are built from: an encoder with feature points, up steps, a head."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from segbench.models.published.contracting import ContractingPath

# Of Keras, in torch's terms (its momentum is one minus this).
BN_EPS, BN_MOMENTUM = 1e-3, 0.01


class Encoder(nn.Module):
    """Features of an image, from the finest to the coarsest, each half as high and wide.

    Args:
        body: gives named points, or features of the strides 1, 2, 4, ..., the finest first.
        first: stride of the finest feature that is handed out, 1 or 2; where the body names no
            point of stride 1, that is the image itself.
        depth: log2 of the stride of the coarsest.
        in_channels: of the image.

    Attributes:
        channels: of each feature.
    """

    def __init__(self, body: nn.Module, first: int, depth: int, in_channels: int) -> None:
        super().__init__()
        self.body = body
        self.first = first
        self.depth = depth
        known: list[int] | None = getattr(body, "out_channels", None)
        if known is not None:
            # No image is tried: some encoders take images of one size only.
            self.channels = list(known[first - 1 : depth + 1])
            return
        image = torch.zeros(1, in_channels, 64, 64, device=next(self.parameters()).device)
        self.eval()
        with torch.no_grad():
            self.channels = [feature.shape[1] for feature in self(image)]
        self.train()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of images (N, C, H, W)."""
        features: dict[str, Tensor] | list[Tensor] = self.body(image)
        if not isinstance(features, dict):
            return list(features[self.first - 1 : self.depth + 1])
        points = list(features.values())
        return [image, *points] if len(points) + self.first == self.depth + 1 else points


def encoder_with_points(
    name: str,
    args: dict[str, Any],
    feature_points: dict[str, tuple[str, ...]],
    first: int,
    depth: int,
    in_channels: int,
    pretrained: bool,
) -> Encoder:
    """An encoder that hands out the features which a published decoder takes.

    Where the publication names points of this encoder, those, and layers after the last of them are
    dropped; of any other encoder the last feature of each stride.

    Args:
        name, args: as in params.yaml.
        feature_points: names of the points by encoder, the finest first.
        first, depth, in_channels: see `Encoder`.
        pretrained: with the hub's weights.
    """
    body: nn.Module
    if name == ContractingPath.NAME:
        body = ContractingPath(in_channels, depth, **args)
    elif (points := feature_points.get(name.split(".")[0])) is not None:
        whole = timm.create_model(
            name.removeprefix("tu-"), pretrained=pretrained, in_chans=in_channels, **args
        )
        with warnings.catch_warnings():
            # Drop path is traced in training only; both graphs have the points.
            warnings.filterwarnings("ignore", message="NOTE: The nodes obtained by tracing")
            body = timm.models.create_feature_extractor(whole, list(points))
    else:
        weights = "imagenet" if pretrained else None
        body = smp.encoders.get_encoder(name, in_channels, depth, weights, **args)
    return Encoder(body, first, depth, in_channels)


class UpStep(nn.Module):
    """One step up: enlarge, set the encoder's feature beside it, convolve.

    Args:
        up: (N, C, H, W) to (N, D, 2H, 2W).
        convs: of what stands side by side.
        channels: that come out.
    """

    def __init__(self, up: nn.Module, convs: nn.Module, channels: int) -> None:
        super().__init__()
        self.up = up
        self.convs = convs
        self.channels = channels

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, C, H, W) and (N, S, 2H, 2W) to (N, channels, 2H, 2W)."""
        y: Tensor = self.convs(torch.cat([self.up(x), skip], dim=1))
        return y


class PublishedUNet(nn.Module):
    """An encoder, a step up for each feature but the coarsest, a head.

    Args:
        encoder: of any features.
        decoder_channels: of the steps, from the coarsest to the finest.
        make_step: from the channels that come up, those of the skip and those asked for.
        make_head: from the channels of the last step.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder_channels: Sequence[int],
        make_step: Callable[[int, int, int], UpStep],
        make_head: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        *skips, width = encoder.channels
        self.steps = nn.ModuleList()
        for skip, channels in zip(reversed(skips), decoder_channels, strict=True):
            step = make_step(width, skip, channels)
            self.steps.append(step)
            width = step.channels
        self.head = make_head(width)

    def forward(self, image: Tensor) -> Tensor:
        """Scaled images (N, C, H, W) to logits (N, num_outputs, H, W)."""
        *skips, x = self.encoder(image)
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            x = step(x, skip)
        logits: Tensor = self.head(x)
        return logits


def double_conv(in_channels: int, out_channels: int, norm: bool) -> nn.Sequential:
    """Twice a 3x3 convolution, batch norm if asked for, ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1))
        if norm:
            layers.append(nn.BatchNorm2d(out_channels, BN_EPS, BN_MOMENTUM))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def nearest() -> nn.Upsample:
    """Nearest upsampling by two."""
    return nn.Upsample(scale_factor=2.0, mode="nearest")


def init_as_keras(*modules: nn.Module) -> None:
    """Glorot-uniform kernels and zero biases in every convolution, Keras's default."""
    for part in (part for module in modules for part in module.modules()):
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
