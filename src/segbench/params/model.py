"""The sections `model` and `candidates`: what all networks share, and how they differ."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    StringConstraints,
    model_validator,
)

from segbench.params.section import Section

WEIGHTS_FILES = (".safetensors", ".pth", ".pt", ".ckpt")
"""Endings of weights files."""

LOADING_ARGS = (
    *("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("pretrained_strict", "encoder_weights", "weights"),
)
"""Arguments with which an encoder's library loads weights on its own."""


class Model(Section):
    """What all candidates share."""

    architecture: str
    """A published U-Net (cvc-mobilenetv2, pet-mobilenetv2, isbi-unet, flood-vgg19, hgr1-resnet50)
    or an architecture of segmentation-models-pytorch (unet, unetplusplus, fpn, ...)."""
    architecture_args: dict[str, Any]
    """Further arguments of that architecture, such as decoder_channels or dropout."""
    in_channels: Annotated[int, Field(ge=1, le=16)]
    """1: grey images as a single channel, for which there are no pretrained weights.
    3: RGB images, or grey ones repeated three times. Any other number: that of `dataset.bands`."""


class Candidate(Section):
    """One contender: an encoder with its weights."""

    encoder: str
    """An encoder of segmentation-models-pytorch, or `tu-` and a timm name; published U-Nets also
    take `unet`, the contracting path of 2015."""
    encoder_args: dict[str, Any]
    """Further arguments of a timm encoder, such as pad_type."""
    weights: str
    """`none` (from scratch), `imagenet` (from the hub), a file (.safetensors, .pth, .pt, .ckpt), or
    `random`: from scratch too, and `train.freeze_encoder` may freeze it all the same."""
    weights_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None
    """sha256 of the weights file; null for all others."""
    input_scaling: Literal["imagenet", "symmetric", "unit", "pretrained"]
    """Pixel values that the weights expect: ImageNet mean and std, [-1, 1], [0, 1], or whatever
    the encoder's library states for its pretrained weights."""
    train_share: Annotated[float, Field(gt=0, le=1)]
    """Share of the training groups to learn from, in as many steps as from all of them; 1.0: all.
    Below, the candidate is a point on the learning curve of the one that it equals otherwise, and
    no rival of any."""

    @property
    def besides_share(self) -> dict[str, Any]:
        """All but the share, which is what the points of a learning curve have in common."""
        return self.model_dump(exclude={"train_share"})

    @property
    def from_scratch(self) -> bool:
        """Whether the encoder starts with random weights."""
        return self.weights in ("none", "random")

    @model_validator(mode="after")
    def _load_weights_by_their_key(self) -> Self:
        for name in LOADING_ARGS:
            if name in self.encoder_args:
                raise ValueError(
                    f"encoder_args.{name} loads weights that are neither checked nor recorded; "
                    "name them in weights, with the weights_sha256 of a file"
                )
        return self

    @model_validator(mode="after")
    def _hash_for_files_only(self) -> Self:
        is_file = not self.from_scratch and self.weights != "imagenet"
        if self.weights.startswith(("=", "+", "-", "@")):
            raise ValueError(
                f"weights '{self.weights}' begins like a formula of a spreadsheet; write "
                f"'./{self.weights}'"
            )
        if is_file and not self.weights.endswith(WEIGHTS_FILES):
            raise ValueError(
                f"weights '{self.weights}' must be none, imagenet, random or a file that ends with "
                f"{', '.join(WEIGHTS_FILES)}"
            )
        if is_file != (self.weights_sha256 is not None):
            need = "needs its weights_sha256 ('sha256sum FILE')" if is_file else "takes no sha256"
            raise ValueError(f"weights '{self.weights}' {need}; set weights_sha256 accordingly")
        return self
