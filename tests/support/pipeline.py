"""A small dataset on its way through the stages, in this process."""

import json
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric import Fabric

from segbench.arrays import augment as packing
from segbench.datasets import download as datasets
from segbench.params import Params
from segbench.splits import split as auditing
from segbench.tracking.records import Record
from segbench.training.train import train


def audit_paths(folder: Path) -> auditing.SplitPaths:
    names = ("split.csv", "split.json", "audit.html", "audit")
    return auditing.SplitPaths(*(folder / name for name in names))


def pack(params: Params, folder: Path) -> Path:
    datasets.download(params.dataset, folder / "dataset")
    auditing.split(
        *(folder / "dataset", params.split, params.report, params.augment, audit_paths(folder))
    )
    packing.augment(
        *(folder / "dataset", folder / "split.csv", params.augment),
        *(folder / "arrays", folder / "preview.png"),
    )
    return folder


def fit_one(params: Params, packed: Path, out: Path, seed: int = 0) -> str:
    """Train a candidate; out/ has what the stage writes to several places."""
    return train(
        *(params, "mobilenetv2_035", 0, seed, packed / "arrays", out / "train"),
        *(out / "history.csv", out / "run.json", out / "checkpoints"),
    )


def stop_after_an_epoch(tree: dict[str, Any], packed: Path, out: Path) -> None:
    """Train, and stop like Ctrl-C once the first epoch is recorded."""
    with pytest.MonkeyPatch.context() as patch:
        write = Record.write

        def interrupt(self: Record, line: str) -> None:
            write(self, line)
            raise KeyboardInterrupt

        patch.setattr(Record, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit_one(Params.model_validate(tree), packed, out)


def one_process() -> Fabric:
    """Lightning Fabric on one CPU process, in float32."""
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def outcome(out: Path) -> dict[str, Any]:
    """What the run's file says, but for the id, which each run draws for itself."""
    said: dict[str, Any] = json.loads((out / "run.json").read_text())
    return {name: value for name, value in said.items() if name != "run"}
