"""Inference costs of candidates, by model and machine.

The measure stage writes them to a CSV file that is kept in git; reading it needs no device. All
rows of a machine come from one measurement, so that their ratios hold even if its speed varies from
day to day.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segbench.arrays.store import Header
from segbench.errors import InputError
from segbench.files import atomic_file, sha256_of_code
from segbench.params import Params

CODE = (
    "devices.py",
    "evaluation/inference.py",
    "exports/graph.py",
    "exports/program.py",
    "exports/runtimes.py",
    "models",
)
"""Source code that costs depend on."""
KEY_DIGITS = 12
COLUMNS = (
    *("model", "device", "processor", "threads", "versions"),
    *("architecture", "encoder", "height", "width", "batch_size"),  # for human readers
    *("parameters", "multiply_adds", "weight_bytes"),
    *("latency_ms", "latency_ms_q1", "latency_ms_q3"),
    *("images_per_second", "images_per_second_q1", "images_per_second_q3"),
    "peak_mib",
)
OTHER_RUNTIMES = ("onnxruntime", "openvino")
LATER_COLUMNS = tuple(
    f"latency_ms_{name}{part}" for name in OTHER_RUNTIMES for part in ("", "_q1", "_q3")
)
"""Which files of earlier versions do not have."""

Row = dict[str, str]
"""A row of the file: text by column."""


@dataclass(frozen=True)
class Machine:
    """The hardware that costs were measured on.

    Attributes:
        device: cpu, cuda or mps.
        processor: its name; for a GPU, followed by the name of the host's CPU.
        threads: CPU threads of torch.
    """

    device: str
    processor: str
    threads: int

    def __str__(self) -> str:
        if self.device != "cpu":
            return self.processor
        return f"{self.processor}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles over the rounds of a measurement."""

    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class Cost:
    """Inference cost in float32 and channels last, including mirror images if `flips` is set.

    An image is a network input: a patch where images are tiled.

    Attributes:
        versions: of torch, segmentation-models-pytorch and timm.
        parameters: number of weights.
        multiply_adds: per image; see `measure.count_multiply_adds`.
        weight_bytes: size of parameters and buffers in the weights file.
        latency_ms: for a single image, from pixels to logits, both on the device.
        images_per_second: likewise, in batches of evaluate.batch_size.
        peak_mib: peak memory. On a GPU, of weights and one batch; on the CPU, how much a process
            grows that builds the network and predicts one batch; None on mps.
        other_latencies_ms: likewise as `latency_ms`, of `OTHER_RUNTIMES` that were asked for.
    """

    versions: str
    parameters: int
    multiply_adds: int
    weight_bytes: int
    latency_ms: Quartiles
    images_per_second: Quartiles
    peak_mib: float | None
    other_latencies_ms: Mapping[str, Quartiles] = field(default_factory=dict)


def model_key(params: Params, alias: str, header: Header) -> str:
    """Hash of everything but the machine that determines an alias's cost.

    Aliases that differ only in their weights share a key. Library versions are not part of it,
    since the table is also read on machines other than the one that measured.
    """
    candidate = params.candidates[alias]
    what = [
        *(params.model.architecture.lower(), params.model.architecture_args),
        *(params.model.in_channels, candidate.encoder, candidate.encoder_args),
        *(header.height, header.width, header.channels, header.num_outputs),
        *(params.evaluate.batch_size, params.evaluate.flips, params.hardware.deterministic),
        sha256_of_code(*CODE),
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def model_keys(params: Params, header: Header) -> dict[str, str]:
    """The key of each candidate of the comparison."""
    return {alias: model_key(params, alias, header) for alias in params.comparison.candidates}


def read_costs(path: Path, params: Params, header: Header) -> dict[str, Cost]:
    """Cost of each candidate, all from the machine measured last among those that have them all.

    Args:
        path: of the file that the measure stage wrote.
        params: all of them.
        header: of the packed arrays.

    Raises:
        InputError: if the file is damaged, or no machine in it has measured all candidates.
    """
    return read_all_costs(path, params, header)[machine_of_costs(path, params, header)]


def machine_of_costs(path: Path, params: Params, header: Header) -> Machine:
    """The machine whose costs `read_costs` returns."""
    wanted = params.comparison.candidates
    for machine, found in reversed(read_all_costs(path, params, header).items()):
        if len(found) == len(wanted):
            return machine
    raise InputError(
        f"{path}: no machine has current costs of all of {', '.join(wanted)}; "
        "run 'segbench repro --force --single-item measure'"
    )


def read_all_costs(path: Path, params: Params, header: Header) -> dict[Machine, dict[str, Cost]]:
    """Costs by machine (latest measurement last) and candidate, as far as they are known.

    Raises:
        InputError: if the file is missing or damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: missing; run 'segbench repro measure' to measure costs")
    keys = model_keys(params, header)
    by_machine: dict[Machine, dict[str, Cost]] = {}
    for row in read_rows(path):
        by_machine.setdefault(machine_of(row), {})[row["model"]] = _cost_of(row)
    found = {
        machine: {alias: costs[key] for alias, key in keys.items() if key in costs}
        for machine, costs in by_machine.items()
    }
    return {machine: costs for machine, costs in found.items() if costs}


def read_rows(path: Path) -> list[Row]:
    """Read and check the file's rows.

    Raises:
        InputError: for a file that `write_rows` did not write.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file, strict=True)
        if tuple(head) not in (COLUMNS, COLUMNS + LATER_COLUMNS):
            raise ValueError(f"its columns are not {', '.join(COLUMNS + LATER_COLUMNS)}")
        rows = [dict(zip(head, line, strict=True)) for line in lines]
        for row in rows:
            _cost_of(row)
        if len({(row["model"], machine_of(row)) for row in rows}) < len(rows):
            raise ValueError("a model is listed twice for one machine")
    except (ValueError, csv.Error) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise InputError(
            f"{path}: not a table of costs as 'segbench repro measure' writes it: {reason}; "
            "restore it from git, or delete it and run 'segbench repro'"
        ) from None
    return rows


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the whole file atomically; rows from `read_rows` are written back unchanged."""
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS + LATER_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def to_row(
    key: str, machine: Machine, params: Params, alias: str, header: Header, cost: Cost
) -> Row:
    """A cost as a row of the file."""
    values = {
        "model": key,
        "device": machine.device,
        "processor": machine.processor,
        "threads": machine.threads,
        "versions": cost.versions,
        "architecture": params.model.architecture.lower(),
        "encoder": params.candidates[alias].encoder,
        "height": header.height,
        "width": header.width,
        "batch_size": params.evaluate.batch_size,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "weight_bytes": cost.weight_bytes,
        **_columns("latency_ms", cost.latency_ms),
        **_columns("images_per_second", cost.images_per_second),
        "peak_mib": "" if cost.peak_mib is None else f"{cost.peak_mib:.1f}",
    }
    for name, latency in cost.other_latencies_ms.items():
        values |= _columns(f"latency_ms_{name}", latency)
    return {name: str(value) for name, value in values.items()}


def machine_of(row: Row) -> Machine:
    """Where a row was measured."""
    return Machine(row["device"], row["processor"], int(row["threads"]))


def _cost_of(row: Row) -> Cost:
    """The cost in a row; raises ValueError for malformed values."""
    peak = row["peak_mib"]
    return Cost(
        versions=row["versions"],
        parameters=int(row["parameters"]),
        multiply_adds=int(row["multiply_adds"]),
        weight_bytes=int(row["weight_bytes"]),
        latency_ms=_quartiles(row, "latency_ms"),
        images_per_second=_quartiles(row, "images_per_second"),
        peak_mib=_number(peak) if peak else None,
        other_latencies_ms={
            name: _quartiles(row, f"latency_ms_{name}")
            for name in OTHER_RUNTIMES
            if row.get(f"latency_ms_{name}")
        },
    )


def _columns(name: str, quartiles: Quartiles) -> dict[str, str]:
    parts = {name: quartiles.median, f"{name}_q1": quartiles.q1, f"{name}_q3": quartiles.q3}
    return {column: f"{value:.3f}" for column, value in parts.items()}


def _quartiles(row: Row, name: str) -> Quartiles:
    return Quartiles(*(_number(row[f"{name}{part}"]) for part in ("", "_q1", "_q3")))


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"{text} is no cost")
    return value
