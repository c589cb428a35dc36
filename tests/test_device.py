"""What an accelerator must do as a CPU does: a self-test for a machine with a CUDA device.

Needs neither DVC nor MLflow: `python -m pytest -n 0 -m device tests/test_device.py`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from segbench.arrays.batches import Batch, PlainBatches
from segbench.arrays.store import open_arrays, read_header
from segbench.devices import prepare, resolve
from segbench.errors import InputError
from segbench.evaluation.evaluate import load_networks
from segbench.evaluation.inference import measure_networks
from segbench.evaluation.predict import Truths
from segbench.evaluation.scoring import select_and_score
from segbench.exports.program import export_network, load_exported
from segbench.models.network import load_network
from segbench.params import Params
from segbench.training.cuda_graph import CapturedStep
from segbench.training.step_checks import DivergedError
from segbench.training.trainer import Trainer
from support.params import ROOT, random_weights, write_params
from support.pipeline import fit_one

DEVICE = "cuda"
COUNT = torch.cuda.device_count()

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(COUNT == 0, reason="no CUDA device on this machine"),
    # Of losses that have no deterministic kernel, and libraries' own.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def tree(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The shrunk params, on the accelerator, for long enough that graphs are replayed."""
    tree["hardware"].update(device=DEVICE, workers=0)
    tree["train"].update(num_epochs=2, steps_per_epoch=6)
    yield tree
    prepare(resolve(Params.model_validate(tree).hardware))


def fit(tree: dict[str, Any], packed: Path, out: Path) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """Weights and history of a training."""
    fit_one(Params.model_validate(tree), packed, out)
    return load_file(out / "train/weights.safetensors"), pd.read_csv(out / "history.csv")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each step of the trainings that follow, whether it was a graph."""
    steps: list[bool] = []
    call = CapturedStep.__call__

    def noted(self: CapturedStep, *given: Any) -> Tensor:
        loss = call(self, *given)
        steps.append(self._recorded is not None)
        return loss

    monkeypatch.setattr(CapturedStep, "__call__", noted)
    return steps


@pytest.mark.parametrize("online", [True, False])
def test_same_digits_twice(
    tree: dict[str, Any], packed: Path, tmp_path: Path, online: bool
) -> None:
    tree["augment"]["online"] = online
    one, history = fit(tree, packed, tmp_path / "one")
    two, again = fit(tree, packed, tmp_path / "two")
    assert same(one, two)
    assert history.equals(again)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_replayed_step_has_the_bits_of_an_eager_one(
    tree: dict[str, Any], packed: Path, tmp_path: Path, replayed: list[bool], precision: str
) -> None:
    """With dropout, clipping and an average, in both phases of a training."""
    tree["candidates"] = random_weights(tree)
    tree["candidates"]["mobilenetv2_035"]["encoder_args"] = {"drop_path_rate": 0.5}
    never = {"patience": None, "min_delta": 0.0, "min_epochs": 0}
    tree["train"].update(
        gradient_clip={"by": "global_norm", "limit": 1.0},
        ema_decay=0.9,
        freeze_encoder="all",
        fine_tune={
            **{"freeze_encoder": "none", "num_epochs": 2, "learning_rate": 1e-3},
            "early_stopping": never,
        },
    )
    tree["hardware"].update(precision=precision, cuda_graphs=False)
    eager, history = fit(tree, packed, tmp_path / "eager")
    assert not replayed
    # Workers, since a thread that pins their batches goes on during the capture.
    tree["hardware"].update(cuda_graphs="auto", workers=2)
    graph, again = fit(tree, packed, tmp_path / "graph")
    assert replayed == 2 * (3 * [False] + 9 * [True])
    assert same(eager, graph)
    assert history.equals(again)


def test_a_loss_that_waits_is_not_captured(
    tree: dict[str, Any],
    packed: Path,
    tmp_path: Path,
    replayed: list[bool],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree["train"]["loss"] = {"lovasz": 1.0}
    fit(tree, packed, tmp_path)
    assert replayed == 12 * [False]
    assert capsys.readouterr().err.count("makes the host wait for the GPU in each step") == 1


@pytest.mark.parametrize("loss", ["dice", "jaccard", "tversky", "focal", "mcc", "bce"])
def test_losses_by_graph(
    tree: dict[str, Any], packed: Path, tmp_path: Path, replayed: list[bool], loss: str
) -> None:
    tree["train"].update(loss={loss: 1.0}, num_epochs=1)
    tree["hardware"]["cuda_graphs"] = False
    eager, _ = fit(tree, packed, tmp_path / "eager")
    tree["hardware"]["cuda_graphs"] = True
    graph, _ = fit(tree, packed, tmp_path / "graph")
    assert len(replayed) == 6
    assert same(eager, graph)


class _Stop(Exception):  # noqa: N818
    """In place of a kill."""


def test_a_resumed_training_ends_with_the_same_bits(
    tree: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree["checkpoints"]["steps"] = 2
    whole, history = fit(tree, packed, tmp_path / "whole")
    step = Trainer.train_step

    def broken(self: Trainer, batch: Batch) -> None:
        if self.state.total_steps == 9:
            raise _Stop
        step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", broken)
        with pytest.raises(_Stop):
            fit(tree, packed, tmp_path / "parts")
    parts, again = fit(tree, packed, tmp_path / "parts")
    assert same(whole, parts)
    assert history.equals(again)


def test_where_batches_come_from_changes_no_bit(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    """Kept on the device, or read from disk, by this process or by two others."""
    tree["augment"]["online"] = False
    found = []
    for name, gib, workers in (("resident", 4.0, 0), ("streamed", 0.0, 0), ("workers", 0.0, 2)):
        tree["hardware"].update(resident_gib=gib, workers=workers)
        found.append(fit(tree, packed, tmp_path / name))
    (resident, history), *others = found
    for weights, again in others:
        assert same(resident, weights)
        assert history.equals(again)


def test_bf16_against_fp32(tree: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    """bf16 has 8 bits of mantissa: losses of the first epochs agree to a few percent."""
    tree["candidates"]["mobilenetv2_035"]["encoder"] = "resnet18"
    found = []
    for precision in ("32-true", "bf16-mixed"):
        tree["hardware"]["precision"] = precision
        found.append(fit(tree, packed, tmp_path / precision)[1]["train_loss"].to_numpy())
    assert not np.array_equal(*found)
    np.testing.assert_allclose(found[1], found[0], rtol=0.03)


def test_float32_scores_are_those_of_a_cpu(
    tree: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same network on both: probabilities to a level of 256, masks to a pixel in a thousand."""
    fit(tree, packed, tmp_path)
    params, header = Params.model_validate(tree), read_header(packed / "arrays")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as evaluate does
    splits = {name: open_arrays(packed / f"arrays/fold0/{name}") for name in ("val", "test")}
    found = []
    for device in ("cpu", DEVICE):
        _, scores = select_and_score(
            params.evaluate,
            load_networks(tmp_path / "train/weights.safetensors", device),
            splits,
            Truths(packed / "dataset"),
            header.dataset.scheme,
            tmp_path,
            lambda *_: None,
            overlap=device != "cpu",
        )
        found.append(scores["test"])
    for one, other in zip(*found, strict=True):
        apart = np.abs(one.counts.astype(int) - other.counts.astype(int)).sum()
        assert apart <= one.counts.sum() / 1000


def test_an_exported_network_runs_on_both(
    tree: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tree, packed, tmp_path)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network = load_network(tmp_path / "train/weights.safetensors").to(DEVICE).eval()
    export_network(network, 3, tmp_path / "model.pt2")
    assert next(network.parameters()).device.type == DEVICE  # left where it was
    images, _ = next(iter(PlainBatches(open_arrays(packed / "arrays/fold0/test"), 2)))
    with torch.no_grad():
        here = load_exported(tmp_path / "model.pt2")(images)
        there = load_exported(tmp_path / "model.pt2").to(DEVICE)(images.to(DEVICE)).cpu()
        expected = network(images.to(DEVICE)).cpu()
    torch.testing.assert_close(there, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(here, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("graphs", [True, False])
def test_out_of_memory_says_what_to_try_and_frees_all(
    tree: dict[str, Any], packed: Path, tmp_path: Path, graphs: bool
) -> None:
    tree["candidates"]["mobilenetv2_035"]["encoder"] = "resnet50"
    tree["train"].update(batch_size=16, num_epochs=1)
    tree["hardware"]["cuda_graphs"] = graphs
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    # Enough for the weights, too little for their gradients beside what a batch leaves for them.
    torch.cuda.set_per_process_memory_fraction(300 * 2**20 / total)
    try:
        with pytest.raises(InputError, match=r"16 images 64x64 at a time do not fit; .*size: 8"):
            fit(tree, packed, tmp_path / "large")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    fit(tree, packed, tmp_path / "large")  # the same command goes on, once there is room


def test_divergence_is_found_without_waiting(
    tree: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that is not finite is named, though it is found when the next has begun."""
    call, calls = CapturedStep.__call__, iter(range(12))

    def spoilt(self: CapturedStep, *given: Any) -> Tensor:
        loss = call(self, *given)
        return loss * float("nan") if next(calls) == 7 else loss

    monkeypatch.setattr(CapturedStep, "__call__", spoilt)
    with pytest.raises(DivergedError, match="the loss is not finite at epoch 1, step 1 "):
        fit(tree, packed, tmp_path)


def test_a_learning_rate_search_leaves_no_memory(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    """Graphs hold what they computed; those of trials go with them."""
    tree["comparison"]["tuning"] = {"learning_rates": [1e-3, 3e-3, 1e-2], "share": 0.5}
    fit(tree, packed, tmp_path / "once")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    fit(tree, packed, tmp_path / "twice")
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= 1.2 * before + 2**24


def test_costs_are_measured_there(tree: dict[str, Any], packed: Path) -> None:
    params = Params.model_validate(tree)
    candidates = {name: params.candidates[name] for name in ("mobilenetv2_035", "resnet18")}
    header = read_header(packed / "arrays")
    costs = measure_networks(candidates, params, header, resolve(params.hardware))
    small, large = costs["mobilenetv2_035"], costs["resnet18"]
    for cost in (small, large):
        assert cost.latency_ms.median > 0
        assert cost.images_per_second.median > 0
        assert cost.peak_mib is not None
        assert cost.peak_mib > cost.weight_bytes / 2**20
    assert small.multiply_adds < large.multiply_adds


def test_compiled(tree: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    """Other kernels, so other bits; the same training."""
    tree["candidates"]["mobilenetv2_035"]["encoder"] = "resnet18"
    tree["hardware"]["precision"] = "32-true"
    _, eager = fit(tree, packed, tmp_path / "eager")
    tree["hardware"]["compile"] = True
    _, compiled = fit(tree, packed, tmp_path / "compiled")
    np.testing.assert_allclose(compiled["train_loss"], eager["train_loss"], rtol=0.03)


@pytest.mark.skipif(COUNT < 2, reason=f"two processes need two CUDA devices; here: {COUNT}")
def test_two_devices_train_as_one(tree: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    """In float32, by SGD: Adam makes whole steps of gradients that are rounding errors."""
    tree["candidates"]["mobilenetv2_035"]["encoder"] = "resnet18"
    tree["train"]["optimizer"].update(name="sgd", learning_rate=0.005, args={})
    tree["hardware"]["precision"] = "32-true"
    found = []
    for devices in (1, 2):
        tree["hardware"]["devices"] = devices
        out = tmp_path / str(devices)
        out.mkdir()
        write_params(tree, out / "params.yaml")
        # Lightning starts the other process with the same command.
        (out / "fit.py").write_text(
            "import sys\nfrom pathlib import Path\n"
            "from segbench.params import load_params\nfrom support.pipeline import fit_one\n"
            "fit_one(load_params(Path('params.yaml')), Path(sys.argv[1]), Path('.'))\n"
        )
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        done = subprocess.run(
            [sys.executable, "fit.py", str(packed)],
            cwd=out,
            env={**os.environ, "PYTHONPATH": f"{paths}{os.pathsep}{os.environ.get('PYTHONPATH')}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.append(pd.read_csv(out / "history.csv"))
        lines = (out / "train/record/metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [0, 1]
    apart = np.abs(found[0] - found[1]).max()
    assert apart[["train_loss", "val_loss"]].max() < 1e-3
