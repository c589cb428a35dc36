"""What tests share: the committed params, shrunk, and a small dataset on its way through."""

import os

# Before torch is imported: on tensors of a few kilobytes a second thread only makes the first wait,
# and two test processes share the cores anyway.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from ruamel.yaml import YAML

from segbench.arrays import augment as packing
from segbench.datasets import download as datasets
from segbench.params import Params
from segbench.splits import split as auditing
from segbench.tracking import follower
from segbench.training.train import train

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

# MLflow and matplotlib warn of their own use of others; torch.export of its own future.
os.environ["MPLBACKEND"] = "svg"

settings.register_profile("quick", max_examples=15, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)  # make test-all
settings.load_profile("quick")


class NoFollower:
    """In place of the process that replays a record into MLflow, which takes seconds to start."""

    def follow(self, folder: Path) -> None:
        pass

    def reached(self, max_wait_s: float) -> bool:
        return True

    def end(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_follower(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are not replayed, unless a test is marked `mlflow`."""
    if request.node.get_closest_marker("mlflow") is None:
        monkeypatch.setattr(follower, "Follower", NoFollower)


def read_params(path: Path = ROOT / "params.yaml") -> dict[str, Any]:
    tree: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text())
    return tree


def write_params(tree: dict[str, Any], path: Path) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    with path.open("w") as file:
        yaml.dump(tree, file)


def shrink(tree: dict[str, Any]) -> dict[str, Any]:
    """The real params, small enough to run in seconds; every choice that is not a size stays."""
    tree["dataset"].update(num_sequences=12, frames_per_sequence=3, height=72, width=80)
    tree["augment"].update(height=64, width=64, preview_samples=2)
    tree["model"]["architecture_args"]["decoder_channels"] = [32, 16, 16, 8, 8]
    tree["train"].update(num_epochs=2, batch_size=4)
    tree["hardware"].update(threads=1, workers=0)
    tree["comparison"].update(
        candidates=["mobilenetv2_035", "regnetx_002"], seeds=[0], num_resamples=100
    )
    tree["report"]["num_samples"] = 2
    return tree


@pytest.fixture
def tree() -> dict[str, Any]:
    """The shrunk params as a tree to change."""
    return shrink(read_params())


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    return Params.model_validate(tree)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dataset/, split.csv, arrays/ and preview.png of the shrunk params."""
    return pack(Params.model_validate(shrink(read_params())), tmp_path_factory.mktemp("packed"))


def audit_paths(folder: Path) -> auditing.Paths:
    names = ("split.csv", "split.json", "audit.html", "audit")
    return auditing.Paths(*(folder / name for name in names))


def pack(params: Params, folder: Path) -> Path:
    datasets.download(params.dataset, folder / "dataset")
    auditing.split_and_audit(
        *(folder / "dataset", params.split, params.report.pictures, audit_paths(folder))
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


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], str]:
    """Send MLflow to a database of the test's own; returns its address."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return lambda: uri
