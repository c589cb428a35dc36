"""Training learns, repeats to the bit, and says what went wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from segbench.arrays.store import open_arrays
from segbench.devices import resolve
from segbench.errors import InputError
from segbench.files import sha256_of
from segbench.images import IGNORE
from segbench.params import Params
from segbench.params.train import Optimizer, Schedule
from segbench.tracking.records import read_run
from segbench.training.optim import make_optimizer, make_schedule
from support.pipeline import fit_one, outcome, pack

pytestmark = pytest.mark.usefixtures("offline")


def fit(params: Params, packed: Path, out: Path, seed: int = 0) -> pd.DataFrame:
    fit_one(params, packed, out, seed)
    return pd.read_csv(out / "history.csv")


def test_same_seed_same_bits_another_seed_others(
    params: Params, packed: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(params, packed, tmp_path / name, seed)
    first, again, other = (
        sha256_of(tmp_path / name / "train" / "weights.safetensors") for name in "abc"
    )
    assert first == again != other
    histories = [(tmp_path / name / "history.csv").read_bytes() for name in "ab"]
    assert histories[0] == histories[1]


def test_a_worker_is_for_a_core_that_does_not_train(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segbench.devices.num_cores", lambda: 4)
    for threads, workers in ((4, 0), (3, 1), (1, 1)):
        tree["hardware"].update(device="cpu", threads=threads, workers="auto")
        assert resolve(Params.model_validate(tree).hardware).workers == workers


def test_workers_change_no_bit(tree: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    hashes = set()
    for workers in (0, 1, 2):
        tree["hardware"]["workers"] = workers
        fit(Params.model_validate(tree), packed, tmp_path / str(workers))
        hashes.add(sha256_of(tmp_path / str(workers) / "train" / "weights.safetensors"))
    assert len(hashes) == 1


def test_it_learns(tree: dict[str, Any], tmp_path: Path) -> None:
    """A handful of images are learnt by heart, which an untrained network fails at."""
    tree["dataset"].update(num_sequences=5, frames_per_sequence=4)
    tree["augment"]["online"] = False
    tree["train"].update(num_epochs=30)
    params = Params.model_validate(tree)
    history = fit(params, pack(params, tmp_path), tmp_path)
    assert history["train_loss"].iloc[0] > 1.0
    assert history["train_loss"].iloc[-1] < 0.4


def test_record_holds_every_choice_and_epoch(params: Params, packed: Path, tmp_path: Path) -> None:
    history = fit(params, packed, tmp_path)
    folder, val = tmp_path / "train" / "record", packed / "arrays" / "fold0" / "val"
    run = read_run(folder)
    assert run.params["train.optimizer.learning_rate"] == "0.003"
    assert run.params["candidate.encoder"] == "tu-mobilenetv2_035"
    assert run.params["hardware.threads"] == str(resolve(params.hardware).threads)
    assert "auto" not in (run.params[f"hardware.{name}"] for name in ("device", "precision"))
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == len(history) == 2
    assert {item.role: item.profile["images"] for item in run.inputs} == {
        role: len(open_arrays(val.parent / role).images) for role in ("train", "val")
    }


def changed(packed: Path, folder: Path, split: str, rows: Any, masks: Any) -> None:
    """Replace packed masks, or drop their samples where `masks` is None."""
    part = folder / "arrays" / "fold0" / split
    if not part.exists():
        shutil.copytree(packed / "arrays", folder / "arrays")
    for name in ("images.npy", "masks.npy"):
        pixels = np.load(part / name)
        if masks is None:
            pixels = np.delete(pixels, rows, axis=0)
        elif name == "masks.npy":
            pixels[rows] = masks
        np.save(part / name, pixels)
    if masks is None:
        table = pd.read_csv(part / "samples.csv").drop(index=rows)
        table.to_csv(part / "samples.csv", index=False)


def test_a_wholly_ignored_image_contributes_nothing_and_is_counted(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    tree["augment"]["online"] = False
    tree["train"].update(keep="best_loss", batch_size=2)
    tree["train"]["loss"] = {"focal": 1.0, "lovasz": 1.0, "bce": 1.0}
    params, rows, histories = Params.model_validate(tree), [0, 5, 11], []
    for name, masks in (("ignored", IGNORE), ("gone", None)):
        changed(packed, tmp_path / name, "train", rows, masks)
        # The last batch of the validation split, whole.
        changed(packed, tmp_path / name, "val", [2], masks)
        histories.append(fit(params, tmp_path / name, tmp_path / name))
    assert histories[0].equals(histories[1])
    assert np.isfinite(histories[0]["val_loss"]).all()
    weights = {sha256_of(tmp_path / n / "train/weights.safetensors") for n in ("ignored", "gone")}
    assert len(weights) == 1
    assert outcome(tmp_path / "ignored")["ignored_images"] == 3
    assert outcome(tmp_path / "gone")["ignored_images"] == 0
    changed(packed, tmp_path / "ignored", "train", slice(None), IGNORE)
    (tmp_path / "all").mkdir()
    with pytest.raises(InputError, match="all pixels of all images are ignored"):
        fit(params, tmp_path / "ignored", tmp_path / "all")


def test_automatic_class_weights_are_those_of_the_training_split(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    tree["train"]["loss"] = {"bce": {"weight": 1.0, "class_weights": "auto"}, "dice": 1.0}
    fit(Params.model_validate(tree), packed, tmp_path)
    masks = open_arrays(packed / "arrays/fold0/train").masks
    share = float((masks == 1).mean())
    expected = [0.5 / (1 - share), 0.5 / share]
    assert outcome(tmp_path)["class_weights"]["bce"] == pytest.approx(expected, rel=1e-3)
    said = json.loads((tmp_path / "train/record/end.json").read_text())["tags"]
    assert json.loads(said["class_weights.bce"]) == pytest.approx(expected, rel=1e-3)


def test_images_of_rare_classes_come_more_often(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    tree["train"].update(oversample=0.9, batch_size=2, num_epochs=1)
    number = len(open_arrays(packed / "arrays/fold0/train").masks)
    # Only these images hold the class.
    rare = [2, 7, 8]
    masks = np.zeros((number, 64, 64), np.uint8)
    masks[rare, :20, :20] = 1
    changed(packed, tmp_path, "train", slice(None), masks)
    fit(Params.model_validate(tree), tmp_path, tmp_path)
    often = np.sqrt(0.9 * number / len(rare))
    assert often > 1.5
    expected = round(number + len(rare) * (often - 1)) // 2 * 2
    assert outcome(tmp_path)["images_per_epoch"] == expected > number
    said = json.loads((tmp_path / "train/record/end.json").read_text())["tags"]
    assert said["images_per_epoch"] == str(expected)


def test_early_stopping_ends_a_run(tree: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    tree["train"].update(num_epochs=20)
    tree["train"]["early_stopping"] = {"patience": 1, "min_delta": 100.0, "min_epochs": 0}
    assert len(fit(Params.model_validate(tree), packed, tmp_path)) == 2


def test_divergence_is_said(tree: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    tree["train"]["optimizer"].update(name="sgd", learning_rate=1e30)
    tree["train"]["schedule"]["name"] = "constant"
    found = r"the loss is not finite at epoch 0, step 1 \(samples \S+, .*; lower train\.optimizer"
    with pytest.raises(InputError, match=found):
        fit(Params.model_validate(tree), packed, tmp_path)
    assert '"FAILED"' in (tmp_path / "train" / "record" / "end.json").read_text()
    assert not (tmp_path / "train" / "weights.safetensors").exists()


def test_a_misspelt_later_candidate_stops_the_first(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    tree["candidates"]["regnetx_002"]["encoder"] = "tu-regnetx_200"
    with pytest.raises(InputError, match=r"candidates\.regnetx_002\.encoder: timm has no"):
        fit(Params.model_validate(tree), packed, tmp_path)
    assert not (tmp_path / "train").exists()


def test_a_device_that_is_not_there(tree: dict[str, Any]) -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda"
    tree["hardware"]["device"] = missing
    with pytest.raises(InputError, match=f"no {missing} on this machine; set auto or cpu"):
        resolve(Params.model_validate(tree).hardware)


def test_a_precision_that_a_cpu_does_not_have(tree: dict[str, Any]) -> None:
    tree["hardware"].update(device="cpu", precision="16-mixed")
    with pytest.raises(InputError, match="16-mixed needs a GPU; set bf16-mixed or 32-true"):
        resolve(Params.model_validate(tree).hardware)


def test_arguments_an_optimiser_does_not_take() -> None:
    params = Optimizer(name="adamw", learning_rate=1.0, weight_decay=0.0, args={"momentum": 0.9})
    with pytest.raises(InputError, match=r"train\.optimizer\.args: adamw: .*momentum"):
        make_optimizer(torch.nn.Linear(1, 1), params, 1.0)


def test_optimisers_are_those_of_torch_by_name() -> None:
    rate = Optimizer(name="nadm", learning_rate=1.0, weight_decay=0.0, args={})
    with pytest.raises(InputError, match=r"no optimiser 'nadm' \(did you mean nadam"):
        make_optimizer(torch.nn.Linear(1, 1), rate, 1.0)
    other = rate.model_copy(update={"name": "radam"})
    assert isinstance(make_optimizer(torch.nn.Linear(1, 1), other, 1.0), torch.optim.RAdam)


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("cosine", lambda rates: rates[0] < rates[3] and rates[-1] < 0.1 * max(rates)),
        ("one_cycle", lambda rates: max(rates) == pytest.approx(1.0) and rates[-1] < 0.01),
        ("constant", lambda rates: set(rates) == {1.0}),
    ],
)
def test_schedules(name: str, check: Callable[[list[float]], bool]) -> None:
    rate = Optimizer(name="sgd", learning_rate=1.0, weight_decay=0.0, args={})
    optimizer = make_optimizer(torch.nn.Linear(1, 1), rate, 1.0)
    params = Schedule(name=name, warmup_share=0.2, factor=0.1, patience=1)  # type: ignore[arg-type]
    made = make_schedule(optimizer, params, 1.0, total_steps=20)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if made is not None:
            made.step()
    assert check(rates), rates
