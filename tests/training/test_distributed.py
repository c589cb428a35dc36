"""A batch that is divided among processes trains as one that is not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from timm.layers import BatchNormAct2d
from torch import nn

from segbench.devices import resolve
from segbench.errors import InputError
from segbench.params import Params
from segbench.training.sync_batch_norm import synchronise_batch_norm
from support.params import ROOT, write_params
from support.pipeline import fit_one

# MLflow's own use of others.
pytestmark = pytest.mark.filterwarnings("ignore")


def stage(tree: dict[str, Any], packed: Path, out: Path) -> pd.DataFrame:
    """The train stage as DVC runs it; its history."""
    out.mkdir()
    write_params(tree, out / "params.yaml")
    paths = {
        "params": out / "params.yaml",
        "arrays": packed / "arrays",
        "out": out / "train",
        "history": out / "history.csv",
        "run": out / "run.json",
        "checkpoints": out / "checkpoints",
    }
    command = [sys.executable, str(ROOT / "stages" / "train.py")]
    command += [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    command += ["--candidate", "resnet18", "--fold", "0", "--seed", "0"]
    uri = f"sqlite:///{out / 'mlflow.db'}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("train: ") == 1  # the first process speaks for all
    return pd.read_csv(out / "history.csv")


@pytest.mark.slow
def test_two_processes_train_as_one(tree: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    """Batch norm and dice see the whole batch; validation counts each sample once."""
    tree["train"].update(num_epochs=3, batch_size=6)
    # Not Adam, which makes whole steps of gradients that are rounding errors; nor MobileNet, whose
    # gradient in float32 is off by half a percent at the start, whatever computes it.
    tree["train"]["optimizer"].update(name="sgd", learning_rate=0.005, args={})
    tree["hardware"].update(precision="32-true", threads=1)
    tree["comparison"]["tuning"] = {"learning_rates": [0.005, 0.004], "share": 0.34}
    one = stage(tree, packed, tmp_path / "one")
    tree["hardware"]["devices"] = 2
    two = stage(tree, packed, tmp_path / "two")
    assert one["train_loss"].iloc[-1] < one["train_loss"].iloc[0]
    apart = np.abs(one - two).max()
    assert apart[["train_loss", "val_loss"]].max() < 1e-3
    assert apart.max() < 1e-2  # a pixel at the threshold is one or the other
    outcomes = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two")]
    assert outcomes[0]["learning_rate"] == outcomes[1]["learning_rate"]
    tried = np.array(
        [[trial["val_dice_per_image"] for trial in outcome["tuning"]] for outcome in outcomes]
    )
    assert tried.shape == (2, 2)
    assert np.abs(tried[0] - tried[1]).max() < 1e-2
    lines = (tmp_path / "two/train/record/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]
    client = MlflowClient(f"sqlite:///{tmp_path / 'two' / 'mlflow.db'}")
    experiments = [found.experiment_id for found in client.search_experiments()]
    assert len(client.search_runs(experiments)) == 1


def moments(rank: int, out: str) -> None:
    """In one of two processes: batch norms over half a batch each."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{out}/meet", rank=rank, world_size=2
    )
    network, images = norms()
    synchronise_batch_norm(network)
    half = images[rank::2].clone().requires_grad_()
    result = network(half)
    (result**3).sum().backward()
    state = network.state_dict()
    torch.save((result.detach(), half.grad, state), f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def norms() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), BatchNormAct2d(4))
    return network, 3 * torch.randn(6, 3, 8, 8) + 1


@pytest.mark.slow
def test_batch_norm_over_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(moments, (str(tmp_path),), nprocs=2)
    network, images = norms()
    images.requires_grad_()
    expected = network(images)
    (expected**3).sum().backward()
    for rank in (0, 1):
        result, gradient, state = torch.load(tmp_path / f"{rank}.pt")
        assert torch.allclose(result, expected[rank::2], atol=1e-5)
        assert torch.allclose(gradient, images.grad[rank::2], atol=1e-3)  # type: ignore[index]
        for name, value in network.state_dict().items():
            assert torch.allclose(state[name].double(), value.double(), atol=1e-5), name


def test_a_batch_must_be_divisible(
    tree: dict[str, Any], packed: Path, tmp_path: Path, offline: Any
) -> None:
    tree["hardware"]["devices"] = 3
    with pytest.raises(InputError, match=r"batch_size: 4 cannot be divided among 3 devices"):
        fit_one(Params.model_validate(tree), packed, tmp_path)


def test_devices_that_are_not_there(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    tree["hardware"].update(device="cuda", devices=2)
    with pytest.raises(InputError, match="devices: 2, but this machine has 1 of cuda; set 1"):
        resolve(Params.model_validate(tree).hardware)
