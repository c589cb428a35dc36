"""Identity of a training: the key of its checkpoints, and the description in its record."""

import hashlib
import json
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segbench.arrays.store import open_arrays, read_header
from segbench.devices import ResolvedHardware
from segbench.files import sha256_of, sha256_of_code
from segbench.params import Params
from segbench.params.compare import RunKey
from segbench.tracking import provenance
from segbench.tracking.records import DatasetInput, Run, flatten, now_ms, split_digest

CODE = (
    *("arrays", "models", "metrics", "training"),
    *("datasets/canonical.py", "devices.py", "images.py", "labels.py", "parallel.py"),
)
"""Source code that determines a training; checkpoints of other code are not resumed."""


def checkpoint_key(
    params: Params, alias: str, fold: int, seed: int, resolved: ResolvedHardware, arrays: Path
) -> str:
    """Hash of everything that determines a training, its code included."""
    parts = [arrays / f"fold{fold}" / name / "samples.csv" for name in ("train", "val")]
    header = read_header(arrays)
    machine = {name: value for name, value in asdict(resolved).items() if name != "workers"}
    what = [
        params.candidates[alias].model_dump(mode="json"),
        *(getattr(params, name).model_dump(mode="json") for name in ("model", "train", "augment")),
        *(_tuning(params), params.evaluate.threshold, fold, seed, machine),
        *(provenance.versions(), sha256_of_code(*CODE)),
        *(header.digest, asdict(header.dataset.scheme), *(sha256_of(part) for part in parts)),
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _tuning(params: Params) -> dict[str, Any] | None:
    tuning = params.comparison.tuning
    return None if tuning is None else tuning.model_dump(mode="json")


def describe_run(
    params: Params, alias: str, fold: int, seed: int, resolved: ResolvedHardware, arrays: Path
) -> Run:
    """Description of the run for its record: all settings, and provenance."""
    header = read_header(arrays)
    chosen = params.model_dump(mode="json", exclude={"candidates", "comparison", "report"})
    chosen["hardware"] = asdict(resolved)
    chosen |= {
        "candidate": {"alias": alias, **params.candidates[alias].model_dump(mode="json")},
        "fold": fold,
        "seed": seed,
    }
    for section in ("evaluate", "tracking", "checkpoints"):  # do not affect training
        del chosen[section]
    chosen["tuning"] = _tuning(params)
    if chosen["tuning"]:
        # The value in params.yaml would look like the rate in use, which is in the tags.
        for part in filter(None, (chosen["train"]["optimizer"], chosen["train"]["fine_tune"])):
            part["learning_rate"] = "tuned"
    candidate = params.candidates[alias]
    inputs = []
    for split in ("train", "val"):
        source = arrays / f"fold{fold}" / split
        samples = open_arrays(source).samples
        ids = samples["whole" if "whole" in samples else "id"]
        digest, counts = split_digest(header.digest, ids), {"images": len(samples)}
        inputs.append(DatasetInput(header.dataset.name, digest, str(source), counts, split))
    weights = {
        "weights": candidate.weights,
        "weights_sha256": candidate.weights_sha256 or "",
        "candidate": alias,
        "dataset_digest": header.digest,
    }
    return Run(
        id=uuid.uuid4().hex,
        stage="train",
        experiment=header.dataset.name,
        name=RunKey(alias, fold, seed).name,
        started_ms=now_ms(),
        params=flatten(chosen),
        tags={**provenance.tags(), **weights},
        inputs=inputs,
    )
