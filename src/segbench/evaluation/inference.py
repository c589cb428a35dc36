"""What predicting with networks costs: time, memory, multiply-adds."""

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from segbench.arrays.store import Header
from segbench.devices import ResolvedHardware, prepare
from segbench.errors import InputError
from segbench.evaluation.costs import Cost, Quartiles
from segbench.exports.packages import need
from segbench.models.flips import FlipAveraged
from segbench.models.network import build_network, check_size, num_parameters
from segbench.params import Params
from segbench.params.model import Candidate
from segbench.progress import with_progress
from segbench.tracking import provenance

if TYPE_CHECKING:
    from segbench.exports.runtimes import Runtime

LIBRARIES = ("torch", "segmentation-models-pytorch", "timm")

# No more rounds than the median needs, nor than networks that take seconds per image allow.
ROUNDS, FEWEST_ROUNDS = 15, 5
PRECISE = 0.02
"""Relative standard error of every median at which to start no further round."""
ENOUGH_S = 120.0
"""Start no further round after this long, once FEWEST_ROUNDS are done."""
TURN_S = 0.05
"""In each round, a network is called repeatedly for about this long."""
WARM_CALLS, MOST_CALLS = 3, 50
MIB = 2**20

Key = TypeVar("Key")


def library_versions(runtimes: Sequence[str] = ()) -> str:
    """Versions of the libraries that costs depend on, and of further runtimes.

    Raises:
        InputError: if such a runtime is not installed.
    """
    versions = provenance.versions()
    own = [f"{name} {versions[name]}" for name in LIBRARIES]
    for name in runtimes:
        need(name)
        own.append(f"{name} {version(name)}")
    return ", ".join(own)


def measure_networks(
    candidates: dict[str, Candidate], params: Params, header: Header, resolved: ResolvedHardware
) -> dict[str, Cost]:
    """Costs of networks, by their key.

    Args:
        candidates: untrained, by key.
        params: all of them.
        header: of the packed arrays.
        resolved: the hardware.
    """
    # First, while this process has not allocated memory that a child could inherit.
    peaks = {} if resolved.device != "cpu" else _peaks_apart(candidates, params, header, resolved)
    prepare(resolved)
    torch.backends.cudnn.allow_tf32 = False  # as evaluation
    one, batch = (_pixels(count, header, resolved) for count in (1, params.evaluate.batch_size))
    networks: dict[str, nn.Module] = {}
    counted: dict[str, int] = {}
    works: dict[tuple[str, int | str], Callable[[], object]] = {}
    runtimes = params.comparison.runtimes
    with torch.no_grad(), TemporaryDirectory() as folder:
        for key, candidate in candidates.items():
            network = _network(params, candidate, header)
            if resolved.device == "cuda":
                peaks[key] = _peak_on_gpu(network, batch)
            networks[key] = network.to(resolved.device)
            counted[key] = count_multiply_adds(network, one)
            works[key, 1] = partial(network, one)
            works[key, len(batch)] = partial(network, batch)
            opened = _open(runtimes, network, params, header, resolved, Path(folder) / key)
            for name, runtime in opened.items():
                works[key, name] = partial(runtime, one.contiguous().numpy())
        seconds = time_interleaved(works, resolved.device)
    return {
        key: Cost(
            versions=library_versions(runtimes),
            parameters=num_parameters(network),
            multiply_adds=counted[key],
            weight_bytes=weight_bytes(network),
            latency_ms=_quartiles(1000 * seconds[key, 1]),
            images_per_second=_quartiles(len(batch) / seconds[key, len(batch)]),
            peak_mib=peaks.get(key),
            other_latencies_ms={name: _quartiles(1000 * seconds[key, name]) for name in runtimes},
        )
        for key, network in networks.items()
    }


def _network(params: Params, candidate: Candidate, header: Header) -> nn.Module:
    network = build_network(params.model, candidate, header.num_outputs)
    check_size(network, header.height, header.width)
    whole = FlipAveraged(network) if params.evaluate.flips else network
    return whole.to(memory_format=torch.channels_last).eval()


def _open(
    names: Sequence[str],
    network: nn.Module,
    params: Params,
    header: Header,
    resolved: ResolvedHardware,
    path: Path,
) -> "dict[str, Runtime]":
    """A network in other runtimes, by their names; a file of it is written."""
    if not names:
        return {}
    import onnx

    from segbench.exports.graph import to_onnx
    from segbench.exports.runtimes import open_runtime

    file = path.with_suffix(".onnx")
    try:
        graph = to_onnx(network, header.channels, header.num_outputs, params.evaluate.threshold)
    except InputError as problem:
        raise InputError(f"comparison.runtimes: {problem}; set it to []") from None
    onnx.save_model(graph, file)
    return {name: open_runtime(name, file, resolved.threads) for name in names}


def _pixels(count: int, header: Header, resolved: ResolvedHardware) -> Tensor:
    """Random images (N, C, H, W) uint8, channels last as in evaluation."""
    shape = (count, header.height, header.width, header.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return torch.from_numpy(noise).to(resolved.device).permute(0, 3, 1, 2)


def count_multiply_adds(network: nn.Module, image: Tensor) -> int:
    """Multiply-adds of a network for one image.

    Counts convolutions, matrix products and attention, which are nearly all; normalisation,
    activations, resizing and other element-wise operations are not counted.

    Args:
        network: in eval mode.
        image: (1, C, H, W).
    """
    # Count the parts of fused attention, so that the number is the same on every device.
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        network(image)
    return counter.get_total_flops() // 2


def weight_bytes(network: nn.Module) -> int:
    """Bytes of parameters and buffers in a weights file."""
    return sum(part.numel() * part.element_size() for part in network.state_dict().values())


def time_interleaved(
    works: Mapping[Key, Callable[[], object]], device: str
) -> dict[Key, np.ndarray]:
    """Time functions in interleaved rounds, so that a slow minute affects all of them equally.

    Args:
        works: functions to time, by name.
        device: is synchronised after each call.

    Returns:
        (R,) seconds of each work in each round, the median of its calls in it; as many rounds as
        the medians of all works need.
    """
    calls = {}
    for name, work in works.items():
        quickest = min(_seconds(work, device) for _ in range(WARM_CALLS))
        calls[name] = min(MOST_CALLS, max(1, round(TURN_S / quickest)))
    found: dict[Key, list[float]] = {name: [] for name in works}
    started = time.perf_counter()
    for number in with_progress(range(ROUNDS), "measure time", ROUNDS, "rounds"):
        if number >= FEWEST_ROUNDS:
            late = time.perf_counter() - started > ENOUGH_S
            if late or all(map(_is_precise, found.values())):
                break
        for name, work in works.items():
            turn = [_seconds(work, device) for _ in range(calls[name])]
            found[name].append(statistics.median(turn))
    return {name: np.array(seconds) for name, seconds in found.items()}


def _is_precise(seconds: list[float]) -> bool:
    """Whether the median of some times has a small standard error, judged by their quartiles."""
    q1, median, q3 = np.percentile(seconds, (25, 50, 75))
    # 1.253 sigma / sqrt(n), sigma from the quartiles, as of a normal distribution.
    return bool(1.253 * (q3 - q1) / 1.349 / len(seconds) ** 0.5 <= PRECISE * median)


def _seconds(work: Callable[[], object], device: str) -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    if device == "mps":
        torch.mps.synchronize()


def _quartiles(values: np.ndarray) -> Quartiles:
    q1, median, q3 = np.percentile(values, (25, 50, 75)).tolist()
    return Quartiles(median, q1, q3)


def _peak_on_gpu(network: nn.Module, batch: Tensor) -> float:
    """Peak MiB of weights and one batch; the network is moved back to the CPU afterwards."""
    # Allocate cuBLAS's workspace, which stays, before measuring: it belongs to no network.
    (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).sum().item()
    before = torch.cuda.memory_allocated()
    network.to("cuda")
    network(batch)  # exclude one-time work such as benchmarking kernels
    torch.cuda.reset_peak_memory_stats()
    network(batch)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    network.to("cpu")
    return peak / MIB


def _peaks_apart(
    candidates: dict[str, Candidate], params: Params, header: Header, resolved: ResolvedHardware
) -> dict[str, float]:
    """Peak growth in MiB of a process that predicts one batch; one process per network.

    They are forked from a server that has imported everything and computed nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    peaks = {}
    named = with_progress(candidates.items(), "measure memory", len(candidates), "networks")
    for key, candidate in named:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                peaks[key] = pool.submit(_growth, candidate, params, header, resolved).result()
            except BrokenProcessPool:
                raise InputError(
                    f"candidates: a process that predicts {params.evaluate.batch_size} images at a "
                    f"time with {candidate.encoder} was killed, probably out of memory; halve "
                    "evaluate.batch_size"
                ) from None
    return peaks


def _growth(
    candidate: Candidate, params: Params, header: Header, resolved: ResolvedHardware
) -> float:
    prepare(resolved)
    batch = _pixels(params.evaluate.batch_size, header, resolved)
    with torch.no_grad():
        # Memory that libraries allocate on first use belongs to no network.
        nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8))
        before = _most_resident()
        network = _network(params, candidate, header)
        network(batch)
    return (_most_resident() - before) / MIB


def _most_resident() -> int:
    """Peak resident memory of this process in bytes; a forked one starts at its own size."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
