"""The ONNX graph of a network: pixels in, masks and probabilities out."""

import io
import math
import warnings
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from segbench.errors import InputError
from segbench.exports.packages import need
from segbench.exports.program import example_images, export_program, exportable
from segbench.images import LEVELS
from segbench.models.flips import FlipAveraged
from segbench.models.network import STRIDE

if TYPE_CHECKING:
    import onnx

OPSET = 18
INPUT, MASK, PROBS, LOGITS = "images", "mask", "probs", "logits"
"""Names of the graph's input and outputs."""
SMALLEST = 2 * STRIDE
"""Pixels to which smaller images are padded."""

# What lies before the network: any size is padded to one that it takes, by repeating the last row
# and column. An image of such a size is left as it is.
BEFORE = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
before (uint8[batch, {channels}, height, width] images)
  => (uint8[views, {channels}, rows, columns] taken, int64[2] size)
{{
  size = Shape <start: int = 2> (images)
  stride = Constant <value_ints: ints = [{stride}, {stride}]> ()
  smallest = Constant <value_ints: ints = [{smallest}, {smallest}]> ()
  one = Constant <value_ints: ints = [1, 1]> ()
  short = Sub (stride, one)
  more = Add (size, short)
  strides = Div (more, stride)
  multiple = Mul (strides, stride)
  wanted = Max (multiple, smallest)
  missing = Sub (wanted, size)
  none = Constant <value_ints: ints = [0, 0, 0, 0, 0, 0]> ()
  pads = Concat <axis: int = 0> (none, missing)
  padded = Pad <mode: string = "edge"> (images, pads)
{views}
}}
"""
# What lies behind it: what was padded is cut off, and bytes, floor(256 p), and the mask are made.
BEHIND = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
behind (float[views, {outputs}, rows, columns] given, int64[2] size)
  => (uint8[batch, height, width] mask, uint8[batch, {outputs}, height, width] probs,
      float[batch, {outputs}, height, width] logits)
{{
{whole}
  start = Constant <value_ints: ints = [0, 0]> ()
  axes = Constant <value_ints: ints = [2, 3]> ()
  logits = Slice (whole, start, size, axes)
  shares = {shares} (logits)
  levels = Constant <value_float: float = {levels}.0> ()
  greatest = Constant <value_float: float = {greatest}.0> ()
  scaled = Mul (shares, levels)
  floats = Min (scaled, greatest)
  probs = Cast <to: int = 2> (floats)
{mask}
}}
"""
ONE_CLASS = """
  least = Constant <value_float: float = {least}.0> ()
  channel = Constant <value_ints: ints = [1]> ()
  plane = Squeeze (floats, channel)
  found = GreaterOrEqual (plane, least)
  mask = Cast <to: int = 2> (found)
"""
CLASSES = """
  ids = ArgMax <axis: int = 1, keepdims: int = 0> (logits)
  mask = Cast <to: int = 2> (ids)
"""
# An image and its three mirror images are one batch, so that the network is in the file once.
MIRRORED = """
  last = Constant <value_ints: ints = [-1]> ()
  end = Constant <value_ints: ints = [-9223372036854775807]> ()
  rows_axis = Constant <value_ints: ints = [2]> ()
  columns_axis = Constant <value_ints: ints = [3]> ()
  upside_down = Slice (padded, last, end, rows_axis, last)
  mirrored = Slice (padded, last, end, columns_axis, last)
  turned = Slice (upside_down, last, end, columns_axis, last)
  taken = Concat <axis: int = 0> (padded, upside_down, mirrored, turned)
"""
AVERAGED = """
  own, of_upside_down, of_mirrored, of_turned = Split <axis: int = 0, num_outputs: int = 4> (given)
  final = Constant <value_ints: ints = [-1]> ()
  stop = Constant <value_ints: ints = [-9223372036854775807]> ()
  down = Constant <value_ints: ints = [2]> ()
  right = Constant <value_ints: ints = [3]> ()
  first = Slice (of_upside_down, final, stop, down, final)
  second = Slice (of_mirrored, final, stop, right, final)
  half_turned = Slice (of_turned, final, stop, right, final)
  third = Slice (half_turned, final, stop, down, final)
  total = Sum (own, first, second, third)
  four = Constant <value_float: float = 4.0> ()
  whole = Div (total, four)
"""


def to_onnx(network: nn.Module, channels: int, outputs: int, threshold: float) -> "onnx.ModelProto":
    """The graph of a network.

    It takes `images` (N, C, H, W) uint8 of any size, and gives `mask` (N, H, W) uint8 class ids by
    the threshold or the largest logit, `probs` (N, K, H, W) uint8, floor(256 p), and `logits`
    (N, K, H, W) float32.

    Args:
        network: (N, C, H, W) uint8 to logits; is left unchanged.
        channels: of the images.
        outputs: channels of the logits; 1: of one class against the background.
        threshold: of the mask of one class.

    Raises:
        InputError: if the packages that write ONNX are not installed, or torch has no words for the
            network.
    """
    need("onnx")
    flips = isinstance(network, FlipAveraged)
    core = network.network if isinstance(network, FlipAveraged) else network
    return assemble(_export_core(core, channels), channels, outputs, threshold, flips)


def assemble(
    core: "onnx.ModelProto", channels: int, outputs: int, threshold: float, flips: bool
) -> "onnx.ModelProto":
    """Set what any caller needs around a network.

    Args:
        core: takes images of its own sizes, and gives logits; without mirror images.
        channels: of the images.
        outputs: as for `to_onnx`.
        threshold: likewise.
        flips: average logits over mirror images.
    """
    from onnx import compose, parser

    core = compose.add_prefix(core, "network/")
    fixed = {"ir_version": core.ir_version, "opset": OPSET}
    one = outputs == 1
    least = math.ceil(threshold * LEVELS)
    before = BEFORE.format(
        **fixed,
        channels=channels,
        stride=STRIDE,
        smallest=SMALLEST,
        views=MIRRORED if flips else "  taken = Identity (padded)",
    )
    behind = BEHIND.format(
        **fixed,
        outputs=outputs,
        whole=AVERAGED if flips else "  whole = Identity (given)",
        shares="Sigmoid" if one else "Softmax <axis: int = 1>",
        levels=LEVELS,
        greatest=LEVELS - 1,
        mask=ONE_CLASS.format(least=least) if one else CLASSES,
    )
    (takes,), (gives,) = core.graph.input, core.graph.output
    whole = parser.parse_model(before)
    whole = compose.merge_models(whole, core, [("taken", takes.name)], outputs=["size", gives.name])
    whole = compose.merge_models(
        *(whole, parser.parse_model(behind), [(gives.name, "given"), ("size", "size")]),
        outputs=[MASK, PROBS, LOGITS],
    )
    whole.graph.name = whole.producer_name = "segbench"
    return whole


def _export_core(network: nn.Module, channels: int) -> "onnx.ModelProto":
    """The network alone, of the sizes that its exported program takes.

    By tracing where that gives the network, which takes a second. torch's newer exporter takes
    twenty for a small network, most of it for conclusions about sizes, and knows those that are
    computed, as in an FPN.
    """
    traced = _trace(network, channels)
    if traced is not None and _gives(traced, network, channels):
        return traced
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                export_program(network, channels),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as problem:
        raise InputError(
            f"torch {torch.__version__} cannot write this network as ONNX "
            f"({type(problem).__name__}); model.pt2, which torch runs, is whole"
        ) from None
    core: onnx.ModelProto = program.model_proto
    # Shapes in between are named by formulas that say nothing to anyone.
    del core.graph.value_info[:]
    return core


def _trace(network: nn.Module, channels: int) -> "onnx.ModelProto | None":
    """What a run of the network does; None if ONNX has no words for it."""
    import onnx

    written: Any = io.BytesIO()  # which its types leave out
    try:
        # It prints the whole graph of what it has no words for.
        with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                exportable(network),
                (example_images(channels),),
                written,
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={name: {0: "n", 2: "h", 3: "w"} for name in ("images", "logits")},
            )
    except (torch.onnx.OnnxExporterError, RuntimeError):  # what tracing itself raises
        return None
    return onnx.load_model_from_string(written.getvalue())


def _gives(traced: "onnx.ModelProto", network: nn.Module, channels: int) -> bool:
    """Whether it gives the network's logits at sizes that it was not traced at."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    network, content = exportable(network), traced.SerializeToString()
    for shape in ((1, channels, 4 * STRIDE, 2 * STRIDE), (3, channels, 3 * STRIDE, 5 * STRIDE)):
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        try:
            session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            (logits,) = session.run(None, {"images": images})
        except Exception:  # of types of its own: a size that was traced does not fit another
            return False
        if logits.shape != expected.shape or not np.allclose(logits, expected, 1e-3, 1e-3):
            return False
    return True
