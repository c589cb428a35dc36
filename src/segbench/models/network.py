"""Networks: an encoder with its weights and a decoder, by name, from raw pixels to logits."""

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders.timm_universal import TimmUniversalEncoder
from torch import Tensor, nn

from segbench.errors import InputError
from segbench.models.catalogue import LIBRARY, PUBLISHED
from segbench.models.pretrained import ask_hub, load_encoder_weights
from segbench.models.published.blocks import PublishedUNet, encoder_with_points
from segbench.models.scaling import Channels, input_scaling
from segbench.params.model import Candidate, Model

STRIDE = 32
"""Height and width of a network's input are multiples of this many pixels."""


@dataclass(frozen=True)
class Blueprint:
    """All it takes to build a network, but its weights; it travels in the weights file.

    Attributes:
        architecture, architecture_args, encoder, encoder_args: as in params.yaml.
        num_outputs: channels of the logits.
        mean, std: of the network's input, for pixel values in [0, 255], a number a channel.
    """

    architecture: str
    architecture_args: dict[str, Any]
    encoder: str
    encoder_args: dict[str, Any]
    num_outputs: int
    mean: Channels
    std: Channels


class SegmentationNetwork(nn.Module):
    """Raw pixels in, logits out: input scaling is part of the network.

    Where the network takes three channels, it sees grey images as three equal ones.
    """

    def __init__(self, blueprint: Blueprint, network: nn.Module) -> None:
        super().__init__()
        self.blueprint = blueprint
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            values = torch.tensor(getattr(blueprint, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images: (N, C, H, W) uint8 or float, values in [0, 255], C 1 (grey) or as many as the
                network takes, H and W multiples of 32.

        Returns:
            (N, num_outputs, H, W).
        """
        scaled = (images.float() - self.mean) / self.std
        logits: Tensor = self.network(scaled)
        return logits


def build_network(model: Model, candidate: Candidate, num_outputs: int) -> SegmentationNetwork:
    """Build a candidate's network: its encoder with the weights asked for, the rest random.

    Random weights come from torch's generator, so seed it first.

    Args:
        model: what all candidates share.
        candidate: its encoder, weights and input scaling.
        num_outputs: channels of the logits.

    Raises:
        InputError: for names or arguments that do not exist, and weights that cannot be had.
    """
    mean, std = (values[: model.in_channels] for values in input_scaling(candidate))
    blueprint = Blueprint(
        model.architecture.lower(),
        model.architecture_args,
        candidate.encoder,
        candidate.encoder_args,
        num_outputs,
        mean,
        std,
    )
    network = _build(blueprint, pretrained=False)
    if candidate.weights == "imagenet":
        network = ask_hub(candidate, lambda: _build(blueprint, pretrained=True))
    if candidate.weights not in ("none", "imagenet"):
        assert candidate.weights_sha256 is not None
        load_encoder_weights(encoder_of(network), Path(candidate.weights), candidate.weights_sha256)
    return network


def check_size(network: SegmentationNetwork, height: int, width: int) -> None:
    """Raise InputError if a network does not take images of that size; some take only one."""
    training = network.training
    image = torch.zeros(1, len(network.blueprint.mean), height, width)
    try:
        with torch.no_grad():
            network.eval()(image.to(next(network.parameters()).device))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"candidates: {network.blueprint.encoder} does not take images of {width}x{height}: "
            f"{reason}; set augment.height and augment.width to a size that it takes, or "
            "encoder_args: {img_size: [height, width]} where it has that argument"
        ) from None
    network.train(training)


def encoder_of(network: SegmentationNetwork) -> nn.Module:
    """The encoder as its library made it, so that names in it are the library's."""
    encoder: Any = network.network.encoder
    if isinstance(network.network, PublishedUNet):
        encoder = encoder.body
    return encoder.model if isinstance(encoder, TimmUniversalEncoder) else encoder


def predict_classes(logits: Tensor, threshold: float) -> Tensor:
    """Class ids (N, H, W) of logits (N, C, H, W): a threshold where C is 1, else the largest."""
    if logits.shape[1] == 1:
        return (logits[:, 0].float().sigmoid() >= threshold).to(torch.uint8)
    return logits.argmax(dim=1).to(torch.uint8)


def save_network(network: SegmentationNetwork, path: Path) -> None:
    """Write weights as safetensors, with the blueprint in the header."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, path, {"blueprint": json.dumps(asdict(network.blueprint), sort_keys=True)})


def load_network(path: Path) -> SegmentationNetwork:
    """Build a network from a weights file that `save_network` wrote.

    Raises:
        InputError: if the file is missing, torn or of another kind.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["blueprint"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a whole weights file of segbench ({error})") from None
    for name in ("mean", "std"):
        header[name] = tuple(header[name])
    network = _build(Blueprint(**header), pretrained=False)
    network.load_state_dict(state)
    return network


def num_parameters(module: nn.Module) -> int:
    """How many weights a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def _build(blueprint: Blueprint, pretrained: bool) -> SegmentationNetwork:
    try:
        with warnings.catch_warnings():
            # smp warns that tu- encoders take True, not 'imagenet'; both mean the same to it.
            warnings.filterwarnings("ignore", message="For 'tu-'")
            network = _network(blueprint, pretrained)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
        LookupError,
        AssertionError,
    ) as error:
        if pretrained:
            raise  # it was built without weights before, so this is the hub's
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{blueprint.architecture} with {blueprint.encoder} cannot be built: {reason}; "
            "fix encoder_args or architecture_args, or take another pair"
        ) from None
    return SegmentationNetwork(blueprint, network)


def _network(blueprint: Blueprint, pretrained: bool) -> nn.Module:
    in_channels = len(blueprint.mean)
    if blueprint.architecture in PUBLISHED:
        published = PUBLISHED[blueprint.architecture]
        encoder = encoder_with_points(
            blueprint.encoder,
            blueprint.encoder_args,
            published.FEATURE_POINTS,
            published.FIRST,
            published.DEPTH,
            in_channels,
            pretrained,
        )
        network: nn.Module = published.build(
            encoder, blueprint.num_outputs, **blueprint.architecture_args
        )
        return network
    return LIBRARY[blueprint.architecture](
        encoder_name=blueprint.encoder,
        encoder_weights="imagenet" if pretrained else None,
        in_channels=in_channels,
        classes=blueprint.num_outputs,
        **blueprint.architecture_args,
        **blueprint.encoder_args,
    )
