"""How fast networks train and predict here: a few steps of each are timed."""

import gc
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from segbench.parallel import num_cores
from segbench.params import Params
from segbench.params.model import Candidate
from segbench.planning.samples import Samples, seconds_to_augment

TIMED_STEPS = 3
LONGEST_STEP_S = 5.0
"""Steps that would take longer are timed with two images."""


@dataclass(frozen=True)
class Speed:
    """What a candidate's network takes, in seconds.

    Attributes:
        steps: per image of training, in each phase.
        predict: per image, in batches of evaluate.batch_size.
        latency: of a single image.
        num_modules, num_parameters: of the network.
    """

    steps: list[float]
    predict: float
    latency: float
    num_modules: int
    num_parameters: int


@dataclass(frozen=True)
class Timing:
    """What was timed on a machine, or on a share of it.

    Attributes:
        start_up: seconds to import what a training needs; the unit of what is fixed.
        made: seconds that training waits for an image to be augmented.
        cores: that a stage has.
        speeds: of the candidates' networks, by alias.
    """

    start_up: float
    made: float
    cores: int
    speeds: dict[str, Speed]


def time_here(params: Params, aliases: Collection[str], samples: Samples) -> Timing:
    """Time candidates with all that this process has.

    Args:
        params: all of them.
        aliases: the candidates.
        samples: a few of the dataset.
    """
    start_up = time_imports()
    if not aliases:
        return Timing(start_up, 0.0, num_cores(), {})
    made = seconds_to_augment(params, samples)
    by_network: dict[str, Speed] = {}
    for alias in aliases:
        candidate = untrained(params.candidates[alias])
        key = candidate.model_dump_json()
        if key not in by_network:
            by_network[key] = time_network(params, candidate)
    speeds = {
        alias: by_network[untrained(params.candidates[alias]).model_dump_json()]
        for alias in aliases
    }
    return Timing(start_up, made, num_cores(), speeds)


def untrained(candidate: Candidate) -> Candidate:
    """The same network: aliases may differ in their weights only."""
    changes: dict[str, Any] = {
        **{"weights": "none", "weights_sha256": None, "input_scaling": "imagenet"},
        "train_share": 1.0,  # any other takes as many steps
    }
    return candidate.model_copy(update=changes)


def time_imports() -> float:
    """Seconds to import what a training needs, as its stage does it."""
    gc.disable()
    started = time.perf_counter()
    import segbench.training.train  # noqa: F401

    gc.enable()
    return time.perf_counter() - started


def time_network(params: Params, candidate: Candidate) -> Speed:
    """Build a candidate's network untrained, and time a few steps and predictions on zeros."""
    import torch

    from segbench.devices import prepare, resolve
    from segbench.models.network import build_network, num_parameters
    from segbench.training.distributed import make_fabric
    from segbench.training.learner import Learner
    from segbench.training.phases import phases_of

    resolved = resolve(params.hardware)
    share = params.train.batch_size // resolved.devices
    fabric = make_fabric(replace(resolved, devices=1, strategy="auto"))
    prepare(resolved)
    network = build_network(params.model, candidate, num_outputs=1).to(fabric.device)
    network = network.to(memory_format=resolved.memory_format)
    size = (params.augment.height, params.augment.width)
    # A loss that fits one class, and takes about as long as any.
    recipe = params.train.model_copy(update={"loss": {"dice": 1.0, "bce": 1.0}})
    zeros = partial(torch.zeros, dtype=torch.uint8, device=fabric.device)

    def pixels(count: int) -> torch.Tensor:
        return zeros((count, *size, params.model.in_channels)).permute(0, 3, 1, 2)

    def train(learner: Learner, count: int) -> None:
        learner.update(learner.backward((pixels(count), zeros((count, *size)))), 0, 1.0)

    @torch.no_grad()
    def predict(count: int) -> None:
        network(pixels(count))

    steps = []
    for phase in phases_of(recipe):
        learner = Learner(fabric, network, recipe, phase, 10**6, size)
        learner.train_mode()
        step = _seconds_per_image(partial(train, learner), share, resolved.device)
        steps.append(step / resolved.devices)
    network.eval()
    predicted = _seconds_per_image(predict, params.evaluate.batch_size, resolved.device)
    return Speed(
        steps=steps,
        predict=predicted,
        latency=_seconds(predict, 1, resolved.device, TIMED_STEPS),
        num_modules=sum(1 for _ in network.modules()),
        num_parameters=num_parameters(network),
    )


def _seconds_per_image(work: Callable[[int], None], batch_size: int, device: str) -> float:
    """Of batches, or of two images where a batch would take long."""
    few = min(2, batch_size)
    slowest = _seconds(work, few, device, 1) / few
    if slowest * batch_size > LONGEST_STEP_S:
        return slowest
    return _seconds(work, batch_size, device, TIMED_STEPS) / batch_size


def _seconds(work: Callable[[int], None], count: int, device: str, calls: int) -> float:
    """Median over calls, after one that prepares kernels."""
    import torch

    found = []
    for _ in range(1 + calls):
        started = time.perf_counter()
        work(count)
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])
