"""The measure stage: inference costs of each candidate on this machine, unless already known."""

import multiprocessing
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.arrays.store import read_header
from segbench.errors import InputError
from segbench.evaluation.costs import (
    Machine,
    machine_of,
    model_keys,
    read_rows,
    to_row,
    write_rows,
)
from segbench.params import Params
from segbench.params.model import Candidate
from segbench.tracking import provenance

if TYPE_CHECKING:
    from segbench.devices import ResolvedHardware

INFERENCE = "segbench.evaluation.inference"
UNSTEADY = 1.5
"""Ratio of a latency's quartiles above which to warn."""


def measure(params: Params, arrays: Path, out: Path) -> str:
    """Measure all candidates if the costs of any are unknown on this machine.

    All are measured together, so that their ratios hold. Networks are those of evaluation, but with
    random weights, on which no cost depends.

    Args:
        params: all of them.
        arrays: folder of the augment stage, of which only the header is read.
        out: the CSV file of costs; rows of other machines stay in it.

    Returns:
        A line with the latencies, preceded by a warning if the machine was busy.

    Raises:
        InputError: for names that do not exist, a batch that does not fit into memory, and a
            damaged file.
    """
    if params.hardware.device in ("auto", "cpu"):
        _start_server()
    from segbench.devices import oom_as_input_error, resolve
    from segbench.evaluation.inference import library_versions, measure_networks
    from segbench.models.catalogue import check_names

    header = read_header(arrays)
    listed = params.comparison.candidates
    untrained = {alias: _untrained(params.candidates[alias]) for alias in listed}
    check_names(params.model, untrained)
    resolved = resolve(params.hardware)
    if params.comparison.runtimes and resolved.device != "cpu":
        raise InputError(
            f"comparison.runtimes: {', '.join(params.comparison.runtimes)} run on the CPU, the "
            f"networks on {resolved.device}; set hardware.device: cpu, or comparison.runtimes: []"
        )
    machine = this_machine(resolved)
    keys = model_keys(params, header)
    rows = read_rows(out) if out.exists() else []
    wanted = {*library_versions(params.comparison.runtimes).split(", ")}
    known = {
        row["model"]
        for row in rows
        if machine_of(row) == machine and wanted <= {*row["versions"].split(", ")}
    }
    if known >= {*keys.values()}:
        return f"{', '.join(keys)}: already measured on {machine}, in {out}"
    started = time.perf_counter()
    named: dict[str, str] = {}  # measure aliases of one network once
    for alias, key in keys.items():
        named.setdefault(key, alias)
    with oom_as_input_error(
        f"evaluate.batch_size: {params.evaluate.batch_size} images at a time do not fit; "
        "halve it, or set hardware.device: cpu"
    ):
        candidates = {key: untrained[alias] for key, alias in named.items()}
        costs = measure_networks(candidates, params, header, resolved)
    # Drop all earlier rows of this machine, so that the rest come from one measurement.
    others = [row for row in rows if machine_of(row) != machine]
    new = [to_row(key, machine, params, alias, header, costs[key]) for key, alias in named.items()]
    write_rows(out, [*others, *new])
    image = "patch" if params.augment.patches else "image"
    latencies = [f"{alias} {costs[key].latency_ms.median:.1f}" for alias, key in keys.items()]
    unsteady = any(cost.latency_ms.q3 > UNSTEADY * cost.latency_ms.q1 for cost in costs.values())
    warning = (
        "WARNING: latencies vary by half or more, so the machine was busy; when it is idle, delete "
        f"its rows in {out} and run 'segbench repro measure' again\n"
    )
    return (warning if unsteady else "") + (
        f"one {image} of {header.width}x{header.height} on {machine}, in ms: "
        f"{', '.join(latencies)}; measured in {time.perf_counter() - started:.0f} s, in {out}"
    )


def _untrained(candidate: Candidate) -> Candidate:
    """The candidate with random weights, which need neither hub nor file."""
    changes = {"weights": "none", "weights_sha256": None, "input_scaling": "imagenet"}
    return candidate.model_copy(update=changes)


def this_machine(resolved: "ResolvedHardware") -> Machine:
    """The machine that this process computes on."""
    processor = provenance.machine_tags()["machine.cpu"]
    if resolved.device == "cuda":
        import torch

        # The CPU can dominate the latency of a single image.
        processor = f"{torch.cuda.get_device_name()} beside {processor}"
    return Machine(resolved.device, processor, resolved.threads)


def _start_server() -> None:
    """Start the server that processes are forked from to measure their memory.

    It imports torch while this process does.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([INFERENCE])
    forkserver.ensure_running()
