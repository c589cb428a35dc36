"""Which runtime is the fastest here whose masks agree."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from segbench.delivery.runtimes import Logits, Runtime
from segbench.evaluation.masks import binarise
from segbench.images import Pixels, most_probable
from segbench.metrics.on_device import to_probs, to_probs_u8

ROUNDS = 3


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
