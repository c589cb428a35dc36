"""Networks from raw pixels to logits: encoder and decoder by name, with weights."""

import json
import warnings
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders.timm_universal import TimmUniversalEncoder
from torch import Tensor, nn

from segbench.errors import InputError
from segbench.models.blueprint import Blueprint as Blueprint
from segbench.models.blueprint import bounded_memory, read_blueprint
from segbench.models.catalogue import LIBRARY, PUBLISHED
from segbench.models.pretrained import ask_hub, load_encoder_weights
from segbench.models.published.blocks import PublishedUNet, encoder_with_points
from segbench.models.scaling import input_scaling
from segbench.params.model import Candidate, Model

STRIDE = 32
"""Height and width of a network's input must be multiples of this."""


class SegmentationNetwork(nn.Module):
    """Raw pixels in, logits out: input scaling is part of the network.

    Grey images are repeated if the network takes three channels.
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
        # Not `images.float()`, which would tie an exported program to the device it was made on.
        scaled = (images - self.mean) / self.std
        logits: Tensor = self.network(scaled)
        return logits


def build_network(model: Model, candidate: Candidate, num_outputs: int) -> SegmentationNetwork:
    """Build a candidate's network: its encoder with the given weights, the rest random.

    Where the network takes other channels than red, green and blue, pretrained weights of its first
    convolution are repeated over them and scaled by 3 / channels. Random weights come from torch's
    generator, so seed it first.

    Args:
        model: what all candidates share.
        candidate: its encoder, weights and input scaling.
        num_outputs: channels of the logits.

    Raises:
        InputError: for unknown names or arguments, and weights that cannot be loaded.
    """
    mean, std = input_scaling(candidate, model.in_channels)
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
    if candidate.weights_sha256 is not None:
        path, channels = Path(candidate.weights), model.in_channels
        load_encoder_weights(encoder_of(network), path, candidate.weights_sha256, channels)
    return network


def check_size(network: SegmentationNetwork, height: int, width: int) -> None:
    """Raise InputError if a network does not accept images of this size; some accept only one."""
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


def check_batch(network: SegmentationNetwork, size: int, height: int, width: int) -> None:
    """Raise InputError if a network cannot be trained on batches of one image.

    Batch norm over globally pooled features, as in DeepLabV3+, has a single value then.

    Args:
        network: is left as it is.
        size: images in a batch.
        height, width: of the images, in pixels.
    """
    if size > 1:
        return
    image = torch.zeros(1, len(network.blueprint.mean), height, width)
    try:
        with torch.no_grad():
            deepcopy(network).train()(image.to(next(network.parameters()).device))
    except ValueError as error:
        raise InputError(
            f"train.batch_size: {network.blueprint.architecture} with {network.blueprint.encoder} "
            f"cannot be trained on batches of one image: {' '.join(str(error).split())}; set 2 or "
            "more, and have at least 2 training images"
        ) from None


def encoder_of(network: SegmentationNetwork) -> nn.Module:
    """The encoder as built by its library, with the library's module names."""
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
    """Build a network from a weights file that `save_network` wrote, whoever made it.

    Raises:
        InputError: if the file is missing, incomplete, of another kind or describes no network of
            its weights.
    """
    try:
        with safe_open(path, "pt") as file:
            text = file.metadata()["blueprint"]
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a complete weights file of segbench ({error})") from None
    try:
        blueprint = read_blueprint(text)
        with bounded_memory(sum(tensor.numel() for tensor in state.values())):
            network = _build(blueprint, pretrained=False)
        network.load_state_dict(state)
    except (InputError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{path}: its description is of no network that segbench builds with its weights: "
            f"{reason}; fetch the file again, or have the network trained anew"
        ) from None
    return network


def num_parameters(module: nn.Module) -> int:
    """Number of weights of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def _build(blueprint: Blueprint, pretrained: bool) -> SegmentationNetwork:
    try:
        with warnings.catch_warnings():
            # smp warns that tu- encoders take True, not 'imagenet', but treats them the same.
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
            raise  # it could be built without weights, so this is the hub's error
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{blueprint.architecture} with {blueprint.encoder} cannot be built: {reason}; "
            "fix encoder_args or architecture_args, or choose another combination"
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
