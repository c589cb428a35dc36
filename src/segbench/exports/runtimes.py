"""Runtimes that run one network: torch, ONNX Runtime, OpenVINO."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segbench.errors import InputError
from segbench.exports.graph import INPUT, LOGITS
from segbench.exports.packages import need
from segbench.exports.program import load_exported
from segbench.images import Pixels
from segbench.models.flips import FlipAveraged
from segbench.models.network import load_network
from segbench.untrusted.onnx_file import checked_onnx

RUNTIMES = ("torch", "onnxruntime", "openvino")
"""By the names of their packages."""
ENDINGS = {
    "torch": (".pt2", ".safetensors"),
    "onnxruntime": (".onnx",),
    "openvino": (".xml", ".onnx"),
}
"""Of files that each reads."""
SHAPES = 4
"""Sizes of a batch that OpenVINO keeps compiled."""
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Runtime:
    """A network, loaded by a runtime.

    Attributes:
        name: of `RUNTIMES`.
        version: of its package.
        call: (N, C, H, W) uint8 to (N, K, H, W) float32 logits.
    """

    name: str
    version: str
    call: Callable[[Pixels], Logits]

    def __call__(self, images: Pixels) -> Logits:
        """Logits (N, K, H, W) of images (N, C, H, W)."""
        return self.call(images)


def open_runtime(
    name: str, file: Path, threads: int, *, flips: bool = False, device: str = "cpu"
) -> Runtime:
    """Load a network.

    Args:
        name: of `RUNTIMES`.
        file: `.pt2` or `.safetensors` for torch, `.onnx` for onnxruntime, `.xml` or `.onnx` for
            openvino.
        threads: that it computes with; torch's, which are the process's own, are set.
        flips: average logits over mirror images, which only weights (`.safetensors`) leave open.
        device: torch's; the others run on the CPU.

    Raises:
        InputError: for a runtime that is not installed, or does not read the file.
    """
    if file.suffix not in ENDINGS[name]:
        raise InputError(f"{file}: {name} reads {' and '.join(ENDINGS[name])}")
    need(name)
    if file.suffix == ".onnx":
        need("onnx")
        checked_onnx(file)
    if name == "torch":
        return Runtime(name, version(name), _torch(file, threads, flips, device))
    opened = {"onnxruntime": _onnxruntime, "openvino": _openvino}[name]
    return Runtime(name, version(name), opened(file, threads))


def _torch(file: Path, threads: int, flips: bool, device: str) -> Callable[[Pixels], Logits]:
    torch.set_num_threads(threads)
    if file.suffix == ".pt2":
        network = load_exported(file).to(device)
        layout = torch.contiguous_format
    else:
        network = load_network(file).to(device).eval().to(memory_format=torch.channels_last)
        network = FlipAveraged(network).eval() if flips else network
        layout = torch.channels_last

    def call(images: Pixels) -> Logits:
        with torch.no_grad():
            batch = torch.from_numpy(images).to(device).contiguous(memory_format=layout)
            logits: Logits = network(batch).float().contiguous().cpu().numpy()
            return logits

    return call


def _onnxruntime(file: Path, threads: int) -> Callable[[Pixels], Logits]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    except Exception as problem:  # of types of its own, which share no other base
        raise _not_read(file, problem) from None
    only = onnxruntime.RunOptions()
    only.only_execute_path_to_fetches = True  # neither probabilities nor masks

    def call(images: Pixels) -> Logits:
        logits: Logits = session.run([LOGITS], {INPUT: np.ascontiguousarray(images)}, only)[0]
        return logits

    return call


def _openvino(file: Path, threads: int) -> Callable[[Pixels], Logits]:
    import openvino

    core = openvino.Core()
    try:
        whole = core.read_model(file)
        (taken,) = whole.get_parameters()
        model = openvino.Model([whole.output(LOGITS)], [taken], "logits")
    except Exception as problem:
        raise _not_read(file, problem) from None
    how: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # where a CPU has bfloat16, OpenVINO takes that
        "ENABLE_CPU_PINNING": False,
    }
    compiled: dict[tuple[int, ...], Any] = {}

    def call(images: Pixels) -> Logits:
        # A graph of one size is twice as fast as one of any.
        if images.shape not in compiled:
            while len(compiled) >= SHAPES:
                del compiled[next(iter(compiled))]
            own = model.clone()
            own.reshape(images.shape)
            compiled[images.shape] = core.compile_model(own, "CPU", how).create_infer_request()
        request = compiled[images.shape]
        found = request.infer({INPUT: np.ascontiguousarray(images)}, share_inputs=True)
        return np.array(found[0])

    return call


def _not_read(file: Path, problem: Exception) -> InputError:
    reason = " ".join(str(problem).split())[:200]
    return InputError(f"{file}: no model that can be run ({reason}); deliver it anew")
