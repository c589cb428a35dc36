"""Training speed on one CUDA device, by how a step's kernels are chosen and launched.

For four encoders at two batch sizes, images a second of a step on a batch that is already there:

    eager       kernels launched one by one
    fastest     the same, with `deterministic: false`: cuDNN picks kernels by trying them
    fused       the same, with one kernel for the optimiser
    graph       forward and backward replayed as a CUDA graph: what `cuda_graphs: auto` does
    graph fused both
    compiled    by torch.compile; reduced: the same, in its mode reduce-overhead
    limit       the whole step, optimiser too, as one graph: what the device's arithmetic allows

and of an epoch as shipped, over `limit`: with images kept on the device, and augmented by worker
processes. `host` is the time to launch a step, `device` that of its kernels (the limit's). Beside
each way stands whether its weights after a few steps have the bits of `eager`.

    python benchmarks/device.py params.yaml [SECONDS]

SECONDS bounds the time for compiled ways, which take minutes to begin; those left out are named.
"""

import gc
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lightning_fabric import Fabric

from segbench.arrays.batches import Batch, PlainBatches, TrainBatches, as_tensors
from segbench.arrays.store import Arrays, Header
from segbench.arrays.transforms import augment_sample, build_pipeline
from segbench.devices import ResolvedHardware, prepare
from segbench.models.network import SegmentationNetwork
from segbench.params.train import Train
from segbench.training.data import TrainingData
from segbench.training.learner import Learner
from segbench.training.phases import phases_of
from segbench.training.step_checks import PendingCheck
from segbench.training.trainer import Trainer
from training import ENCODERS, INFO, SIZE, Bench, configured, generate

BATCHES = (16, 64)
PAIRS = 512
WARM, STEPS, ROUNDS = 6, 12, 3
SHIPPED_STEPS = 20
COMPILED = ("compiled", "reduced")


@dataclass(frozen=True)
class Way:
    """How a step's kernels are chosen and launched."""

    deterministic: bool = True
    fused: bool = False
    graph: bool = False
    compiled: str | None = None


WAYS = {
    "eager": Way(),
    "fastest": Way(deterministic=False),
    "fused": Way(fused=True),
    "graph": Way(graph=True),
    "graph fused": Way(fused=True, graph=True),
    "compiled": Way(compiled="default"),
    "reduced": Way(compiled="reduce-overhead"),
}


class Steps:
    """Training steps of one network in one way, on a batch that is already there."""

    def __init__(
        self, way: Way, bench: Bench, recipe: Train, resolved: ResolvedHardware, fabric: Fabric
    ) -> None:
        self.resolved = replace(resolved, deterministic=way.deterministic)
        self.prepare()
        torch.manual_seed(0)
        self.network = bench.fast_network().train()
        if way.compiled:
            torch.compiler.reset()
            self.network.compile(mode=way.compiled)
        if way.fused:
            optimizer = recipe.optimizer.model_copy(update={"args": {"fused": True}})
            recipe = recipe.model_copy(update={"optimizer": optimizer})
        phase = phases_of(recipe)[0]
        size = (SIZE, SIZE)
        self.learner = Learner(fabric, self.network, recipe, phase, 10_000, size, way.graph)
        self.learner.train_mode()
        self.batch: Batch = bench.resident()
        self.pending: PendingCheck | None = None
        for _ in range(WARM):
            self()
        self.bits = _bits(self.network)

    def prepare(self) -> None:
        prepare(self.resolved)

    def __call__(self) -> None:
        """A step as the trainer does it."""
        loss = self.learner.backward(self.batch)
        if self.pending is not None:
            assert self.pending.not_finite() is None
        self.pending = self.learner.update(loss, 0, 1.0)


class Limit:
    """A whole step as one graph."""

    def __init__(self, bench: Bench, resolved: ResolvedHardware) -> None:
        self.resolved = resolved
        self.prepare()
        network = bench.fast_network().train()
        resident = bench.resident()
        step = bench.step(network, lambda: resident, bench.kind, fused=True, capturable=True)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        network.zero_grad()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream):
            step()
        self()

    def prepare(self) -> None:
        prepare(self.resolved)

    def __call__(self) -> None:
        self.graph.replay()


def _bits(network: SegmentationNetwork) -> str:
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def seconds_a_step(step: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / STEPS


def seconds_to_launch(step: Callable[[], object]) -> float:
    """What the host takes for a step, if the device keeps it from nothing."""
    found = []
    for _ in range(STEPS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        step()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def shipped(bench: Bench, arrays: Arrays, online: bool, graphs: bool) -> float:
    """Seconds a step of the second epoch of a training, less validation."""
    resolved, params = bench.resolved, bench.params
    prepare(resolved)
    batches = TrainBatches(
        arrays if online else as_tensors(arrays, torch.device("cuda")),
        bench.batch,
        partial(augment_sample, build_pipeline(params.augment)) if online else None,
        0,
        SHIPPED_STEPS,
        resolved.workers if online else 0,
        pinned=online,
    )
    few = Arrays(arrays.images[:8], arrays.masks[:8], arrays.samples[:8])
    header, val = Header(INFO, SIZE, SIZE, 3, ""), PlainBatches(few, 8)
    data = TrainingData(header, batches, val, few, 0, 0, np.arange(8), 1)
    recipe = params.train.model_copy(update={"num_epochs": 2})
    torch.manual_seed(0)
    trainer = Trainer(bench.fabric, bench.fast_network(), recipe, data, 0.5, cuda_graphs=graphs)
    trainer.run()
    return trainer.train_seconds / len(batches)


def measure(bench: Bench, ways: dict[str, Way]) -> dict[str, dict[str, float | bool]]:
    """Milliseconds a step and to launch one, by way: medians over rounds that alternate."""
    resolved, recipe = bench.resolved, bench.params.train
    steps: dict[str, Steps | Limit] = {
        name: Steps(way, bench, recipe, resolved, bench.fabric) for name, way in ways.items()
    }
    steps["limit"] = Limit(bench, resolved)
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            step.prepare()
            rounds[name].append(seconds_a_step(step))
    found: dict[str, dict[str, float | bool]] = {}
    eager = steps.get("eager")
    for name, step in steps.items():
        step.prepare()
        found[name] = {
            "ms": 1000 * statistics.median(rounds[name]),
            "host_ms": 1000 * seconds_to_launch(step),
        }
        if isinstance(step, Steps) and isinstance(eager, Steps):
            found[name]["same_bits"] = step.bits == eager.bits
    return found


def free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def label(bench: Bench) -> str:
    return f"{bench.candidate.encoder:<20}{bench.batch:>5}"


def report(bench: Bench, columns: tuple[str, ...]) -> dict[str, object]:
    """Measure and print a row of all ways that begin at once, and of the training as shipped."""
    found = measure(bench, {name: WAYS[name] for name in columns if name in WAYS})
    free()
    print(label(bench) + "".join(_rate(found[name], bench.batch) for name in columns))
    times = "  ".join(
        f"{name} {found[name]['ms']:.2f} ({found[name]['host_ms']:.2f})" for name in columns
    )
    print(f"    ms a step (host): {times}")
    ends = {}
    for online, graphs in product((False, True), repeat=2):
        name = f"{'online' if online else 'resident'} {'graph' if graphs else 'eager'}"
        ends[name] = 1000 * shipped(bench, bench.arrays, online, graphs)
        free()
    said = "  ".join(
        f"{name} {bench.batch / ms * 1000:.0f} ({found['limit']['ms'] / ms:.2f})"
        for name, ms in ends.items()
    )
    print(f"    shipped, images/s (over limit): {said}", flush=True)
    return {"ways": found, "shipped": ends}


def main(path: Path, most_seconds: float) -> None:
    if not torch.cuda.is_available():
        print("bench-device: skipped, no CUDA device on this machine")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {SIZE}x{SIZE}")
    results: dict[str, object] = {"device": torch.cuda.get_device_name()}
    columns = (*(name for name in WAYS if name not in COMPILED), "limit")
    head = "".join(f"{name:>12}" for name in columns)
    print(f"{'encoder':<20}{'batch':>5}{head}  images/s (* not the bits of eager)", flush=True)
    with TemporaryDirectory() as temporary:
        generate(Path(temporary), PAIRS, 0)
        benches = [
            Bench(configured(path, batch), encoder, Path(temporary))
            for encoder in ENCODERS
            for batch in BATCHES
        ]
        for bench in benches:
            results[label(bench)] = report(bench, columns)
        started = time.perf_counter()
        for bench, name in product(benches, COMPILED):
            if time.perf_counter() - started > most_seconds:
                print(f"{label(bench)}  {name}: not measured, out of time")
                continue
            found = measure(bench, {name: WAYS[name]})
            free()
            print(f"{label(bench)}  {name}: {_rate(found[name], bench.batch)}", flush=True)
            results[f"{label(bench)} {name}"] = found
    print(json.dumps({"bench": results}))


def _rate(found: dict[str, float | bool], batch: int) -> str:
    star = "" if found.get("same_bits", True) else "*"
    return f"{batch / found['ms'] * 1000:.0f}{star}".rjust(12)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))
