"""A network as an exported program: one file that runs without segbench.

`torch.export.load` runs what somebody put into such a file; `load_exported` does not.
"""

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segbench.errors import InputError
from segbench.models.network import STRIDE
from segbench.untrusted.program import checked_program

MISMADE = (
    *(RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError),
    *(SyntaxError, NameError, MemoryError, OverflowError),
)
"""What torch raises for a program whose parts do not go together."""


class _StaticSame(nn.Module):
    """Convolution with constant 'same' padding, for inputs whose size is a multiple of the stride.

    For these the padding is (kernel - stride), with the larger half right and below; the library
    computes it from the size at run time, which cannot be exported.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        pads: list[int] = []
        for axis in (1, 0):  # nn.functional.pad takes the last axis first
            reach = (conv.kernel_size[axis] - 1) * conv.dilation[axis] + 1
            total = max(reach - conv.stride[axis], 0)
            pads += [total // 2, total - total // 2]
        self.pads = pads
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        x = nn.functional.pad(x, self.pads)
        return nn.functional.conv2d(
            x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups
        )


def export_network(network: nn.Module, channels: int, path: Path) -> None:
    """Write what `export_program` makes of a network, as `pt2`."""
    save_program(export_program(network, channels), path)


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write an exported program as `pt2`."""
    with _without_a_known_warning():
        torch.export.save(program, path)


def exportable(network: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode, of parts that can be exported; of the same values for sizes
    that are multiples of the stride."""
    network = copy.deepcopy(network).cpu().eval()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv2dSame):
                setattr(parent, name, _StaticSame(child))
    return network


def example_images(channels: int) -> Tensor:
    """Images (N, C, H, W) uint8 to export a network with."""
    return torch.zeros((2, channels, 2 * STRIDE, 3 * STRIDE), dtype=torch.uint8)


def export_program(network: nn.Module, channels: int) -> ExportedProgram:
    """Export a network: any batch size, height and width multiples of 32 from 64 up.

    Args:
        network: left unchanged; a copy on the CPU in eval mode is exported.
        channels: of the images.

    Returns:
        A program that takes (N, C, H, W) uint8 and gives (N, num_outputs, H, W) float32 logits.
    """
    network, example = exportable(network), example_images(channels)
    # At least 2, as a size of 1 would be exported as a constant.
    height, width = Dim("height", min=2, max=1024), Dim("width", min=2, max=1024)
    shapes = {0: Dim("batch", min=1, max=2**16), 2: STRIDE * height, 3: STRIDE * width}
    with torch.no_grad(), _without_a_known_warning():
        return torch.export.export(network, (example,), dynamic_shapes=(shapes,))


def load_exported(path: Path) -> nn.Module:
    """Read an exported program as a module, whoever made it.

    Raises:
        InputError: for one that is damaged, or holds what a network does not need.
    """
    program = io.BytesIO(checked_program(path))
    try:
        with _without_a_known_warning():
            module: nn.Module = torch.export.load(program).module()
    except MISMADE as problem:
        reason = " ".join(str(problem).split())[:200]
        raise InputError(
            f"{path}: torch {torch.__version__} does not read this exported program: {reason}; "
            "ask for the run's weights.safetensors, or have it exported anew"
        ) from None
    return module


@contextmanager
def _without_a_known_warning() -> Iterator[None]:
    """Suppress torch's warning about weights that share memory, which it stores correctly."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor")
        yield
