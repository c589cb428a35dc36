"""Cost: what a candidate takes to predict, by model and machine.

What predicting costs is measured once (`segbench.measuring`) and kept in a CSV file in git, which
is read here without a device. All rows of a machine are of one measurement, so that their ratios
hold even if the machine is a little faster on another day.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segbench.arrays.store import Header
from segbench.errors import InputError
from segbench.files import atomic_file, sha256_of_code
from segbench.params import Params

CODE = ("devices.py", "evaluation/measure.py", "models")
"""Source that says what a network does, and how that is measured."""
KEY_DIGITS = 12
COLUMNS = (
    *("model", "device", "processor", "threads", "versions"),
    *("architecture", "encoder", "height", "width", "batch_size"),  # for who reads the file
    *("parameters", "multiply_adds", "weight_bytes"),
    *("latency_ms", "latency_ms_q1", "latency_ms_q3"),
    *("images_per_second", "images_per_second_q1", "images_per_second_q3"),
    "peak_mib",
)

Row = dict[str, str]
"""A line of the file as it stands there, by column."""


@dataclass(frozen=True)
class Machine:
    """What computes.

    Attributes:
        device: cpu, cuda or mps.
        processor: its name; of a GPU also that of the processor that feeds it.
        threads: of torch on the CPU.
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
    """What predicting costs: float32, channels last, mirror images included where they are asked
    for. An image is one as the network sees it: where images are cut, a patch.

    Attributes:
        versions: of the libraries that computed.
        parameters: weights that are learnt.
        multiply_adds: of one image; see `measure.count_multiply_adds`.
        weight_bytes: of parameters and buffers, as the weights file holds them.
        latency_ms: of one image alone, from pixels on the device to logits on it.
        images_per_second: in batches of evaluate.batch_size, likewise.
        peak_mib: memory that weights and a batch take on a GPU; on the CPU by how much a process
            grows that builds the network and predicts a batch; None where nobody counts it (mps).
    """

    versions: str
    parameters: int
    multiply_adds: int
    weight_bytes: int
    latency_ms: Quartiles
    images_per_second: Quartiles
    peak_mib: float | None


def model_key(params: Params, alias: str, header: Header) -> str:
    """Names the network that an alias stands for, by all that its cost comes from but the machine.

    Aliases that differ in their weights alone have one key. Versions of libraries are the
    machine's: a table is read wherever a report is written.
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
    """Cost of each candidate, all on one machine: of those that have all, the last measured.

    Args:
        path: of the file that the measure stage wrote.
        params: all of them.
        header: of the packed arrays.

    Raises:
        InputError: if the file is damaged, or no machine in it has measured all candidates.
    """
    return read_all_costs(path, params, header)[machine_of_costs(path, params, header)]


def machine_of_costs(path: Path, params: Params, header: Header) -> Machine:
    """The machine that `read_costs` reads of."""
    wanted = params.comparison.candidates
    for machine, found in reversed(read_all_costs(path, params, header).items()):
        if len(found) == len(wanted):
            return machine
    raise InputError(
        f"{path}: no machine in it has measured all of {', '.join(wanted)} as they are now; "
        "run 'dvc repro --force --single-item measure'"
    )


def read_all_costs(path: Path, params: Params, header: Header) -> dict[Machine, dict[str, Cost]]:
    """Costs by machine, the last measured last, and by candidate, as far as they are known.

    Raises:
        InputError: if the file is missing or damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: missing, so no cost was measured; run 'dvc repro measure'")
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
    """The file's rows, checked.

    Raises:
        InputError: for a file that `write_rows` did not write.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file, strict=True)
        if tuple(head) != COLUMNS:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        rows = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        for row in rows:
            _cost_of(row)
        if len({(row["model"], machine_of(row)) for row in rows}) < len(rows):
            raise ValueError("a model stands there twice for one machine")
    except (ValueError, csv.Error) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise InputError(
            f"{path}: not a table of costs as 'dvc repro measure' writes it: {reason}; bring it "
            "back from git, or delete it and run 'dvc repro'"
        ) from None
    return rows


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the file whole; rows that were read come out as they were."""
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def to_row(
    key: str, machine: Machine, params: Params, alias: str, header: Header, cost: Cost
) -> Row:
    """A cost as a line of the file."""
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
    return {name: str(value) for name, value in values.items()}


def machine_of(row: Row) -> Machine:
    """Where a row was measured."""
    return Machine(row["device"], row["processor"], int(row["threads"]))


def _cost_of(row: Row) -> Cost:
    """The cost that a row holds; ValueError for what is no cost."""
    quartiles = []
    for name in ("latency_ms", "images_per_second"):
        median, q1, q3 = (_number(row[f"{name}{part}"]) for part in ("", "_q1", "_q3"))
        quartiles.append(Quartiles(median, q1, q3))
    peak = row["peak_mib"]
    return Cost(
        versions=row["versions"],
        parameters=int(row["parameters"]),
        multiply_adds=int(row["multiply_adds"]),
        weight_bytes=int(row["weight_bytes"]),
        latency_ms=quartiles[0],
        images_per_second=quartiles[1],
        peak_mib=_number(peak) if peak else None,
    )


def _columns(name: str, quartiles: Quartiles) -> Mapping[str, str]:
    parts = {name: quartiles.median, f"{name}_q1": quartiles.q1, f"{name}_q3": quartiles.q3}
    return {column: f"{value:.3f}" for column, value in parts.items()}


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"{text} is no cost")
    return value
