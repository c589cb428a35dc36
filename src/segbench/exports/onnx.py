"""A network as one ONNX file, its description inside."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from segbench.exports.description import KEY, Description
from segbench.exports.graph import to_onnx
from segbench.models.flips import FlipAveraged

if TYPE_CHECKING:
    import onnx


def export_onnx(network: nn.Module, description: Description, path: Path) -> None:
    """Write a network as an ONNX file that holds all it takes to call it.

    Args:
        network: (N, C, H, W) uint8 to logits; averaged over mirror images if its rule says so. It
            is left unchanged.
        description: of it, which goes into the file.
        path: the file; see `graph.to_onnx`.

    Raises:
        InputError: if the packages that write ONNX are not installed, or torch has no words for
            the network.
    """
    assert description.flips == isinstance(network, FlipAveraged)
    whole = to_onnx(network, description.channels, description.num_outputs, description.threshold)
    save(whole, description, path)


def save(whole: "onnx.ModelProto", description: Description, path: Path) -> None:
    """Write a graph with its description."""
    import onnx
    from onnx import helper

    whole.producer_version = description.segbench
    helper.set_model_props(whole, {KEY: description.to_json()})
    onnx.checker.check_model(whole)
    onnx.save_model(whole, path)
