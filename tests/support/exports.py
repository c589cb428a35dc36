"""A network that nobody trained, and what a file of it says."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import torch

from segbench.exports.description import Description
from segbench.exports.graph import assemble
from segbench.exports.onnx import save
from segbench.images import Pixels
from segbench.models.network import SegmentationNetwork, build_network
from segbench.params.model import Candidate, Model

SMALL = {"decoder_channels": [16, 16, 8, 8, 8]}
FIELDS: dict[str, Any] = {
    "format": 1,
    "name": "mine-fold0-seed1",
    "candidate": "mine",
    "fold": 0,
    "seed": 1,
    "architecture": "unet",
    "encoder": "resnet18",
    "pretrained": "from scratch",
    "classes": ["background", "pølyp"],
    "colours": ["#000000", "#ff0000"],
    "background": 0,
    "channels": 3,
    "height": 64,
    "width": 96,
    "patches": None,
    "num_outputs": 1,
    "threshold": 0.37,
    "min_size": 0,
    "largest": False,
    "flips": False,
    "dataset": "polyps",
    "dataset_digest": "a" * 64,
    "split_digest": "b" * 64,
    "licence": "CC BY 4.0",
    "citation": "",
    "weights_sha256": "c" * 64,
    "run": "d" * 32,
    "scores": {"test/dice_per_image": 0.75},
    "segbench": "0.1.0",
}
CORE = """
<ir_version: 10, opset_import: ["" : 18]>
core (uint8[n, {channels}, h, w] x) => (float[n, {outputs}, h, w] y) {{
  floats = Cast <to: int = 1> (x)
  middle = Constant <value_float: float = 127.0> ()
  scale = Constant <value_float: float = 0.05> ()
  away = Sub (floats, middle)
  scaled = Mul (away, scale)
  {last}
}}
"""
MEAN = """axis = Constant <value_ints: ints = [1]> ()
  y = ReduceMean (scaled, axis)"""
SEVERAL = {
    "classes": ["one", "two", "three"],
    "colours": ["#000000", "#ff0000", "#00ff00"],
    "background": None,
    "num_outputs": 3,
}


def described(**changes: Any) -> Description:
    return Description.model_validate({**FIELDS, **changes})


def write_plain_network(about: Description, path: Path) -> None:
    """Write a network that needs no training: logits are the channels or their mean, scaled."""
    channels, outputs = about.channels, about.num_outputs
    last = MEAN if outputs == 1 else "y = Identity (scaled)"
    core = onnx.parser.parse_model(CORE.format(channels=channels, outputs=outputs, last=last))
    whole = assemble(core, channels, outputs, about.threshold, about.flips)
    save(whole, about, path)


def network_of(
    architecture: str = "unet",
    encoder: str = "resnet18",
    outputs: int = 1,
    channels: int = 3,
    encoder_args: dict[str, Any] | None = None,
    **args: Any,
) -> SegmentationNetwork:
    torch.manual_seed(0)
    model = Model(architecture=architecture, architecture_args=args, in_channels=channels)
    fields = {"encoder": encoder, "encoder_args": encoder_args or {}, "weights": "none"}
    rest = {"weights_sha256": None, "input_scaling": "imagenet", "train_share": 1.0}
    candidate = Candidate.model_validate({**fields, **rest})
    network = build_network(model, candidate, outputs)
    with torch.no_grad():  # so that norms divide by what a training would leave, not by ones
        network.train()(torch.randint(0, 256, (4, channels, 64, 64)).float())
    network.eval()
    return network


def pixels(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
