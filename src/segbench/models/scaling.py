"""Input scaling: the pixel values that an encoder's weights expect."""

import segmentation_models_pytorch as smp
import torch

from segbench.errors import InputError
from segbench.models.pretrained import ask_hub
from segbench.params.model import Candidate

Channels = tuple[float, ...]
"""One value per channel of a network's input."""


def input_scaling(candidate: Candidate, in_channels: int) -> tuple[Channels, Channels]:
    """Mean and std of an encoder's input, for pixel values in [0, 255].

    Those of red, green and blue are repeated over further channels, as their weights are.

    Args:
        candidate: its encoder.
        in_channels: of the network.

    Raises:
        InputError: if the params contradict the hub's ImageNet weights.
    """
    known = {
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    }
    asked = known.get(candidate.input_scaling)
    if candidate.weights == "imagenet" or asked is None:
        own = ask_hub(candidate, lambda: smp.encoders.get_preprocessing_params(candidate.encoder))
        top = 255.0 / own["input_range"][1]
        pretrained = (
            tuple(top / 255 * value for value in own["mean"]),
            tuple(top / 255 * value for value in own["std"]),
        )
        if asked is not None and not torch.allclose(
            torch.tensor(asked), torch.tensor(pretrained), atol=1e-3
        ):
            raise InputError(
                f"candidates: {candidate.encoder} asks for input_scaling "
                f"'{candidate.input_scaling}', but its ImageNet weights expect mean "
                f"{own['mean']} and std {own['std']}; set input_scaling: pretrained"
            )
        asked = pretrained
    mean, std = (
        tuple(255.0 * values[at % len(values)] for at in range(in_channels)) for values in asked
    )
    return mean, std
