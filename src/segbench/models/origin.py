"""Origin of an encoder's weights, for the report."""

from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp

from segbench.files import sha256_of_arrays
from segbench.models.network import SegmentationNetwork, encoder_of
from segbench.models.pretrained import RGB
from segbench.params.model import Candidate


@dataclass(frozen=True)
class Origin:
    """An encoder's state before training.

    Attributes:
        source: of its weights: a file, their name on the hub, or `from scratch`; and whether they
            were adapted to other channels than red, green and blue.
        sha256: of the file, or of weights from the hub as loaded; None if from scratch.
        mean, std: normalisation of pixel values in [0, 1], one value per channel.
    """

    source: str
    sha256: str | None
    mean: list[float]
    std: list[float]


def origin_of(candidate: Candidate, network: SegmentationNetwork) -> Origin:
    """The origin of the encoder in a network that has not been trained yet."""
    mean, std = (
        [round(value / 255, 6) for value in values]
        for values in (network.blueprint.mean, network.blueprint.std)
    )
    if candidate.from_scratch:
        return Origin("from scratch", None, mean, std)
    adapted = f", adapted to {len(mean)} channels" if is_adapted(candidate, len(mean)) else ""
    if candidate.weights != "imagenet":
        return Origin(f"{candidate.weights}{adapted}", candidate.weights_sha256, mean, std)
    encoder: Any = encoder_of(network)
    if candidate.encoder.startswith("tu-"):
        own = encoder.pretrained_cfg
        source = own["hf_hub_id"] or own["url"]
    else:
        own = smp.encoders.encoders[candidate.encoder]["pretrained_settings"]["imagenet"]
        source = f"{own['repo_id']} at {own['revision']}"
    state = {name: tensor.cpu().numpy() for name, tensor in encoder.state_dict().items()}
    return Origin(f"{source}{adapted}", sha256_of_arrays(state), mean, std)


def is_adapted(candidate: Candidate, in_channels: int) -> bool:
    """Are pretrained weights made to fit a network that takes other channels than RGB?"""
    return not candidate.from_scratch and in_channels != RGB
