"""What a recipe asks of a training is what happens: phases, freezing, clipping, what is kept."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from segbench import progress
from segbench.arrays.batches import Batch, PlainBatches, TrainBatches
from segbench.arrays.store import open_arrays, read_header
from segbench.devices import prepare, resolve
from segbench.errors import InputError
from segbench.models.network import build_network, encoder_of
from segbench.params import Params
from segbench.params.train import GradientClip
from segbench.training.data import open_data
from segbench.training.distributed import make_fabric
from segbench.training.optim import clip_gradients
from segbench.training.trainer import Trainer
from support.params import random_weights
from support.pipeline import fit_one

NEVER = {"patience": None, "min_delta": 0.0, "min_epochs": 0}


class Watched(Trainer):
    """A training that keeps the weights of every step, and those that each phase ends with."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.after_step: list[dict[str, Tensor]] = []
        self.after_phase: list[dict[str, Tensor]] = []

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def train_step(self, batch: Batch) -> None:
        super().train_step(batch)
        self.after_step.append(self.weights())

    def start_phase(self, phase: int) -> None:
        self.after_phase.append(self.weights())
        super().start_phase(phase)

    def run(self, *arguments: Any) -> None:
        super().run(*arguments)
        self.after_phase.append(self.weights())


class Training:
    """A short training on the packed synthetic dataset, and its weights before and after."""

    def __init__(self, tree: dict[str, Any], packed: Path) -> None:
        tree["augment"]["online"] = False
        params = Params.model_validate(tree)
        torch.manual_seed(0)
        header = read_header(packed / "arrays")
        self.network = build_network(
            params.model, params.candidates["mobilenetv2_035"], header.num_outputs
        ).to(memory_format=torch.channels_last)
        resolved = resolve(params.hardware)
        prepare(resolved)
        fabric = make_fabric(resolved)
        data = open_data(params, "mobilenetv2_035", 0, 0, packed / "arrays", resolved, fabric)
        self.val = data.held_out
        self.trainer = Watched(fabric, self.network, params.train, data, 0.5)
        self.before = self.trainer.weights()
        self.trainer.run()
        self.history = self.trainer.state.history
        self.selected = self.trainer.state.selected_epoch

    def changed(self, before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
        return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture
def short(tree: dict[str, Any]) -> dict[str, Any]:
    tree["train"].update(num_epochs=2)
    tree["hardware"].update(precision="32-true", workers=0)
    tree["train"]["schedule"]["name"] = "constant"
    return tree


def test_a_frozen_encoder_stays_as_it_came_batch_norm_included(
    short: dict[str, Any], packed: Path
) -> None:
    short["train"]["freeze_encoder"] = "all"
    short["candidates"] = random_weights(short)
    done = Training(short, packed)
    changed = done.changed(done.before, done.trainer.weights())
    assert changed
    assert not any(".encoder." in name for name in changed)


def test_two_phases(short: dict[str, Any], packed: Path) -> None:
    short["candidates"] = random_weights(short)
    encoder = "blocks.6.0.bn1"  # all but the end of the last block
    short["train"].update(
        freeze_encoder="all",
        fine_tune={
            "freeze_encoder": encoder,
            "num_epochs": 3,
            "learning_rate": 1e-4,
            "early_stopping": NEVER,
        },
    )
    short["train"]["keep"] = "last"
    done = Training(short, packed)
    assert [row["epoch"] for row in done.history] == [0, 1, 2, 3, 4]
    assert [row["learning_rate"] for row in done.history] == [3e-3] * 2 + [1e-4] * 3
    first, second = done.trainer.after_phase
    assert not any(".encoder." in name for name in done.changed(done.before, first))
    tuned = {name for name in done.changed(first, second) if ".encoder." in name}
    assert tuned
    assert all("blocks.6.0" in name and "bn1" not in name for name in tuned), tuned
    assert any("running_mean" in name for name in tuned)
    assert len(encoder_of(done.network).state_dict()) > len(tuned)


def test_the_best_epoch_of_both_phases_is_kept(short: dict[str, Any], packed: Path) -> None:
    """A second phase that ruins everything leaves the weights of the first."""
    short["train"].update(
        num_epochs=3,
        keep="best_loss",
        fine_tune={
            "freeze_encoder": "none",
            "num_epochs": 2,
            "learning_rate": 10.0,
            "early_stopping": NEVER,
        },
    )
    done = Training(short, packed)
    assert done.selected == min(done.history, key=lambda row: row["val_loss"])
    assert done.selected["epoch"] < 3
    assert done.changed(*done.trainer.after_phase) == set()


@pytest.mark.parametrize("keep", ["best", "best_loss", "last"])
def test_what_is_kept(short: dict[str, Any], packed: Path, keep: str) -> None:
    short["train"].update(num_epochs=4, keep=keep)
    short["train"]["optimizer"]["learning_rate"] = 0.05
    done = Training(short, packed)
    rows = done.history
    expected = {
        "best": max(rows, key=lambda row: row["val_dice_per_image"]),
        "best_loss": min(rows, key=lambda row: row["val_loss"]),
        "last": rows[-1],
    }[keep]
    assert done.selected == expected
    done.network.eval()
    with torch.no_grad():
        losses = [
            (float(done.trainer.learner.loss(done.network(images), masks)), len(images))
            for images, masks in PlainBatches(done.val, 4)
        ]
    mean = sum(loss * size for loss, size in losses) / sum(size for _, size in losses)
    assert mean == pytest.approx(expected["val_loss"], rel=1e-4)


def test_the_moving_average_is_what_is_validated_and_kept(
    short: dict[str, Any], packed: Path
) -> None:
    short["train"].update(ema_decay=0.9, keep="last", num_epochs=1, steps_per_epoch=5)
    done = Training(short, packed)
    steps = done.trainer.after_step
    assert len(steps) == 5
    name = "network.segmentation_head.0.weight"
    average = steps[0][name]  # the first step is where it starts
    for step in steps[1:]:
        average = 0.9 * average + 0.1 * step[name]
    assert torch.allclose(done.trainer.weights()[name], average, atol=1e-6)
    assert not torch.allclose(done.trainer.weights()[name], steps[-1][name], atol=1e-6)


def test_early_stopping_waits_for_the_least_number_of_epochs(
    short: dict[str, Any], packed: Path
) -> None:
    short["train"].update(num_epochs=12)
    short["train"]["early_stopping"] = {"patience": 1, "min_delta": 100.0, "min_epochs": 5}
    assert len(Training(short, packed).history) == 5


def test_the_log_says_where_a_training_is(
    short: dict[str, Any],
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also in a second phase after a first that ended early, and there after a resume."""
    short["train"].update(num_epochs=6, steps_per_epoch=3)
    short["train"]["early_stopping"] = {"patience": 1, "min_delta": 100.0, "min_epochs": 2}
    short["train"]["fine_tune"] = {
        "freeze_encoder": "none",
        "num_epochs": 2,
        "learning_rate": 1e-4,
        "early_stopping": NEVER,
    }
    params = Params.model_validate(short)
    monkeypatch.setattr(progress, "PERIOD_S", 0.0)  # a line is always due
    step = Trainer.train_step

    def interrupted(self: Trainer, batch: Batch) -> None:
        if self.state.total_steps == 7:
            raise KeyboardInterrupt
        step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit_one(params, packed, tmp_path)
    places = [line.split(": ")[1].split(" %")[0] for line in capsys.readouterr().err.splitlines()]
    assert places[:2] == ["epoch 1 of 8, step 1 of 3, 4", "epoch 1 of 8, step 2 of 3, 8"]
    assert "epoch 1 of 8, validation, 12" in places
    assert places[-1] == "epoch 3 of 4, step 1 of 3, 58"
    fit_one(params, packed, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    first = r"mobilenetv2_035-fold0-seed0: epoch 3 of 4, step 1 of 3, 58 %, \S+ images/s, .* s left"
    assert re.fullmatch(first, lines[0])
    assert ": epoch 4 of 4, validation, 100 %," in lines[-1]
    assert "val dice 0." in lines[-1]


def test_a_plateau_before_that_is_forgotten(
    short: dict[str, Any], packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping asks what the loss does now, not what it did before the least epochs."""
    short["train"]["num_epochs"] = 8
    short["train"]["early_stopping"] = {"patience": 2, "min_delta": 0.0, "min_epochs": 6}
    losses = iter([1.0, 2.0, 2.0, 2.0, 0.9, 0.8, 0.7, 0.6])
    validate = Trainer.validate
    monkeypatch.setattr(
        Trainer, "validate", lambda self: replace(validate(self), loss=next(losses))
    )
    assert len(Training(short, packed).history) == 8


def test_modes_of_a_traced_encoder(
    short: dict[str, Any], packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its graph follows its mode through validation and into the next epoch, or stays if frozen."""
    short["model"] = {
        "architecture": "cvc-mobilenetv2",
        "architecture_args": {},
        "in_channels": 3,
    }
    short["candidates"]["mobilenetv2_035"]["encoder_args"] = {"drop_path_rate": 0.9}
    short["train"].update(num_epochs=2, steps_per_epoch=1)
    differs: list[bool] = []
    original = Watched.train_step

    def spy(self: Watched, batch: Batch) -> None:
        with torch.no_grad():
            first, second = (encoder_of(self.network)(torch.ones(4, 3, 64, 64)) for _ in range(2))
        last = list(first)[-1]
        differs.append(not torch.equal(first[last], second[last]))
        original(self, batch)

    monkeypatch.setattr(Watched, "train_step", spy)
    Training(short, packed)
    assert differs == [True, True]
    differs.clear()
    short["train"]["freeze_encoder"] = "all"
    short["candidates"] = random_weights(short)
    Training(short, packed)
    assert differs == [False, False]


def test_what_the_second_phase_needs_is_checked_before_the_first(
    tree: dict[str, Any], packed: Path, tmp_path: Path, offline: Callable[[], str]
) -> None:
    tree["train"]["fine_tune"] = {
        "freeze_encoder": "no.such.layer",
        "num_epochs": 1,
        "learning_rate": 1e-4,
        "early_stopping": NEVER,
    }
    with pytest.raises(InputError, match=r"has no layer 'no\.such\.layer'"):
        fit_one(Params.model_validate(tree), packed, tmp_path)
    assert (tmp_path / "train/record/metrics.jsonl").read_text() == ""


def test_plateau_lets_pass_what_it_is_told_to(short: dict[str, Any], packed: Path) -> None:
    short["train"]["num_epochs"] = 5
    short["train"]["optimizer"].update(name="sgd", learning_rate=1e-30)
    short["train"]["schedule"].update(name="plateau", patience=1, factor=0.1)
    rates = [row["learning_rate"] for row in Training(short, packed).history]
    # The first epoch is the best, the next is let pass, the third lowers the rate of the fourth.
    assert rates[:3] == [1e-30] * 3
    assert rates[3] == pytest.approx(1e-31)


def gradients(by: str, limit: float) -> list[Tensor]:
    small, large = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    small.grad, large.grad = torch.tensor([0.3, 0.4]), torch.tensor([-30.0, 40.0])
    clip_gradients([small, large], GradientClip(by=by, limit=limit))  # type: ignore[arg-type]
    return [small.grad, large.grad]


def test_three_ways_to_clip() -> None:
    small, large = gradients("parameter_norm", 1.0)
    assert torch.allclose(small, torch.tensor([0.3, 0.4]))  # below the limit
    assert torch.allclose(large, torch.tensor([-0.6, 0.8]), atol=1e-4)
    small, large = gradients("global_norm", 1.0)
    assert torch.cat([small, large]).norm() == pytest.approx(1.0, abs=1e-4)
    assert small.norm() == pytest.approx(0.01, abs=1e-4)
    small, large = gradients("value", 0.35)
    assert torch.allclose(torch.cat([small, large]), torch.tensor([0.3, 0.35, -0.35, 0.35]))


@pytest.mark.parametrize("by", ["global_norm", "parameter_norm", "value"])
def test_clipping_reaches_the_training(short: dict[str, Any], packed: Path, by: str) -> None:
    """With plain SGD of rate 1, a step is the clipped gradient."""
    short["train"].update(num_epochs=1, steps_per_epoch=1, keep="last")
    short["train"]["optimizer"].update(name="sgd", learning_rate=1.0, weight_decay=0.0)
    short["train"]["gradient_clip"] = {"by": by, "limit": 1e-3}
    done = Training(short, packed)
    names = [name for name, _ in done.network.named_parameters()]
    steps = [done.trainer.weights()[name] - done.before[name] for name in names]
    measured = {
        "global_norm": torch.cat([step.flatten() for step in steps]).norm(),
        "parameter_norm": max(step.norm() for step in steps),
        "value": max(step.abs().max() for step in steps),
    }
    assert float(measured[by]) == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("adam", {"eps": 1e-7}),
        ("adamw", {"betas": [0.8, 0.9]}),
        ("nadam", {"eps": 1e-7}),
        ("rmsprop", {"alpha": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_optimisers_take_their_arguments(
    short: dict[str, Any], packed: Path, name: str, args: dict[str, Any]
) -> None:
    short["train"].update(num_epochs=1)
    short["train"]["optimizer"].update(name=name, args=args, learning_rate=1e-4)
    done = Training(short, packed)
    assert done.changed(done.before, done.trainer.weights())


@pytest.mark.parametrize("steps", [2, 30])
def test_an_epoch_has_the_steps_it_is_given(packed: Path, steps: int) -> None:
    arrays = open_arrays(packed / "arrays" / "fold0" / "train")
    keys: list[tuple[int, ...]] = []

    def vary(image: Any, mask: Any, key: tuple[int, ...]) -> tuple[Any, Any]:
        keys.append(key)
        return image, mask

    batches = TrainBatches(arrays, 4, vary, 0, steps)
    assert len(list(batches.of(3))) == len(batches) == steps
    assert len(set(keys)) == len(keys) == 4 * steps  # no variation twice
    seen = np.bincount([key[2] for key in keys], minlength=len(arrays.images))
    assert seen.max() - seen.min() <= 1


def test_a_grey_network_takes_grey_images_only(
    tree: dict[str, Any], packed: Path, tmp_path: Path, offline: Callable[[], str]
) -> None:
    tree["model"]["in_channels"] = 1
    with pytest.raises(InputError, match=r"model.in_channels: 1, but .* have 3 channels; set 3"):
        fit_one(Params.model_validate(tree), packed, tmp_path)


def test_a_training_leaves_an_animation_of_one_sample(
    short: dict[str, Any], packed: Path, tmp_path: Path, offline: Callable[[], str]
) -> None:
    short["train"]["num_epochs"] = 3
    fit_one(Params.model_validate(short), packed, tmp_path)
    with Image.open(tmp_path / "train/record/artifacts/pictures/progress.gif") as movie:
        assert movie.n_frames == 3
        frames = []
        for at in range(3):
            movie.seek(at)
            frames.append(np.asarray(movie.convert("RGB")))
    assert (frames[0] != frames[2]).any()  # the prediction moved
    third = frames[0].shape[1] // 3
    below = slice(40, None)  # the labels
    assert (frames[0][below, : 2 * third - 4] == frames[2][below, : 2 * third - 4]).all()
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["val_accuracy_micro"].between(0, 1).all()
    assert "network.segmentation_head.0.weight" in load_file(tmp_path / "train/weights.safetensors")
