"""By which runtime a model runs: the fastest here whose masks agree."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segbench.delivery.finding import Source
from segbench.devices import ResolvedHardware
from segbench.errors import InputError
from segbench.evaluation.evaluate import load_networks
from segbench.exports.masks import binarise
from segbench.exports.packages import there
from segbench.exports.program import load_exported
from segbench.exports.runtimes import Logits, Runtime, open_runtime
from segbench.images import Pixels, most_probable
from segbench.metrics.on_device import to_probs, to_probs_u8

ROUNDS = 3
OTHERS = ("onnxruntime", "openvino")
"""Than torch: both read ONNX, which was looked at before. OpenVINO's own files nobody can check."""

Forward = Callable[[Pixels], Tensor]
"""Logits (N, K, H, W) of images (N, H, W, C) uint8."""


def open_model(
    source: Source, resolved: ResolvedHardware, wanted: str, few: Callable[[], Pixels] | None
) -> tuple[Forward, str]:
    """The network of a model, and by what it runs, in words.

    Args:
        source: the model.
        resolved: the hardware.
        wanted: a runtime's name; `auto`: the fastest that is installed, that a file of the model is
            for, and whose masks are those of torch.
        few: makes some images (N, H, W, C) to try runtimes on; None: torch, if it can.

    Raises:
        InputError: for a runtime that is not there.
    """
    forward = _torch(source, resolved)
    file = source.files.get("onnx")
    others = {name: file for name in OTHERS if file and resolved.device == "cpu" and there(name)}
    by_torch = f"by torch {torch.__version__} on {resolved.device}"
    if wanted == "torch" or (wanted == "auto" and forward and not (others and few)):
        if forward is None:
            raise InputError(f"{source.name}: no file that torch runs; take --runtime auto")
        return forward, by_torch
    if wanted not in ("auto", *others):
        raise InputError(
            f"--runtime {wanted}: not installed (pip install -e '.[delivery]'), or there is no "
            "model.onnx, which evaluation and 'segbench deliver' write; name --device cpu"
        )
    names = [*others] if wanted == "auto" else [wanted]
    if not names:
        raise InputError(f"{source.name}: ONNX alone, which runs on the CPU; name --device cpu")
    opened = {name: open_runtime(name, others[name], resolved.threads) for name in names}
    if wanted == "auto" and forward is not None and few is not None:
        torch_forward = forward
        opened["torch"] = Runtime(
            "torch",
            torch.__version__,
            lambda images: torch_forward(images.transpose(0, 2, 3, 1)).float().numpy(),
        )
        choice = fastest(opened, few().transpose(0, 3, 1, 2), source.rule.threshold)
        chosen, said = choice.runtime, choice.sentence
        if chosen.name == "torch":
            return forward, said
    else:
        chosen = opened[names[0]]
        said = f"by {chosen.name} {chosen.version}"
    return lambda images: torch.from_numpy(chosen(images.transpose(0, 3, 1, 2))), said


def _torch(source: Source, resolved: ResolvedHardware) -> Forward | None:
    """As evaluation computes; None if no file of the model is for torch."""
    if "weights" in source.files:
        network = load_networks(source.files["weights"], resolved.device)[source.rule.flips]
        layout = torch.channels_last
    elif "program" in source.files:
        network = load_exported(source.files["program"]).to(resolved.device)
        layout = torch.contiguous_format
    else:
        return None

    def forward(images: Pixels) -> Tensor:
        with torch.no_grad():
            batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
            logits: Tensor = network(batch.to(resolved.device))
            return logits

    return forward


def masks_of(logits: Logits, threshold: float) -> Pixels:
    """Class ids (N, H, W) of logits (N, K, H, W) as evaluation makes them: by the threshold where K
    is 1, else the largest."""
    if logits.shape[1] > 1:
        return np.stack([most_probable(one) for one in logits])
    probs_u8 = to_probs_u8(to_probs(torch.from_numpy(logits))).numpy()
    return binarise(probs_u8[:, 0], threshold)


@dataclass(frozen=True)
class Choice:
    """The fastest runtime whose masks agree.

    Attributes:
        runtime: that runtime.
        seconds: of a batch, by runtime.
        differ: pixels of the batch whose class is another than torch's, by runtime.
    """

    runtime: Runtime
    seconds: dict[str, float]
    differ: dict[str, int]

    @property
    def sentence(self) -> str:
        """Which it is, and why."""
        others = [
            f"{name} takes {seconds / self.seconds[self.runtime.name]:.1f} times as long"
            + (f" and differs in {self.differ[name]} pixels" if self.differ[name] else "")
            if not self.differ[name] or seconds >= self.seconds[self.runtime.name]
            else f"{name} is faster, but differs in {self.differ[name]} pixels"
            for name, seconds in self.seconds.items()
            if name != self.runtime.name
        ]
        return "; ".join([f"by {self.runtime.name} {self.runtime.version}", *others])


def fastest(runtimes: Mapping[str, Runtime], images: Pixels, threshold: float) -> Choice:
    """Try runtimes on a batch, one after another in rounds, and take the fastest that agrees.

    Args:
        runtimes: by name; torch, which is what was scored, among them.
        images: (N, C, H, W).
        threshold: of masks.
    """
    masks = {name: masks_of(run(images), threshold) for name, run in runtimes.items()}
    differ = {name: int((own != masks["torch"]).sum()) for name, own in masks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(ROUNDS):
        for name, run in runtimes.items():
            started = time.perf_counter()
            run(images)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    best = min((name for name in runtimes if not differ[name]), key=medians.__getitem__)
    return Choice(runtimes[best], medians, differ)
