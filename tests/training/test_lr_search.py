"""Each run finds its own learning rate on validation, and is trained as if it had been named."""

import json
import weakref
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from segbench.comparison.trials import leaders, trial_table
from segbench.errors import InputError
from segbench.params import Params, load_params
from segbench.planning.plan import _epochs
from segbench.tracking.records import read_run
from segbench.training import train as training
from segbench.training.checkpoints import Checkpoints
from segbench.training.lr_search import (
    Trial,
    best_recipe,
    read_trials,
    recipes_to_try,
    write_trials,
)
from segbench.training.trainer import Trainer
from support.params import ROOT, problems, random_weights
from support.pipeline import fit_one, outcome

STEPS = 4


@pytest.fixture
def grid(tree: dict[str, Any]) -> dict[str, Any]:
    """Two trials of an epoch, then two epochs; a checkpoint after every second step."""
    tree["train"].update(num_epochs=2, steps_per_epoch=STEPS)
    tree["comparison"]["tuning"] = {"learning_rates": [1e-2, 1e-4], "share": 0.5}
    tree["checkpoints"].update(steps=2, minutes=None)
    tree["hardware"].update(threads=1, workers=0)
    return tree


def fit(tree: dict[str, Any], packed: Path, out: Path) -> str:
    return fit_one(Params.model_validate(tree), packed, out)


def weights(out: Path) -> bytes:
    return (out / "train" / "weights.safetensors").read_bytes()


def test_the_best_rate_trains_as_if_it_had_been_named(
    grid: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    said = fit(grid, packed, tmp_path / "tuned")
    found = outcome(tmp_path / "tuned")
    assert [trial["learning_rate"] for trial in found["tuning"]] == [1e-2, 1e-4]
    assert [trial["epochs"] for trial in found["tuning"]] == [1, 1]
    scores = {trial["val_dice_per_image"]: trial["learning_rate"] for trial in found["tuning"]}
    assert len(scores) == 2, "the rates come to the same, so that nothing is tested here"
    rate = found["learning_rate"]
    assert rate == scores[max(scores)]
    assert f"2 epochs at {rate:g}, of 2 rates" in said

    grid["comparison"]["tuning"] = None
    grid["train"]["optimizer"]["learning_rate"] = rate
    fit(grid, packed, tmp_path / "named")
    assert outcome(tmp_path / "named") == {**found, "tuning": []}
    assert weights(tmp_path / "tuned") == weights(tmp_path / "named")
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("tuned", "named")]
    assert histories[0] == histories[1]


def test_a_trial_is_a_short_training(grid: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    """At its rate, by the whole schedule, from the same first weights and batches."""
    fit(grid, packed, tmp_path / "tuned")
    grid["comparison"]["tuning"] = None
    for trial in outcome(tmp_path / "tuned")["tuning"]:
        grid["train"]["num_epochs"] = 1
        grid["train"]["optimizer"]["learning_rate"] = trial["learning_rate"]
        out = tmp_path / str(trial["learning_rate"])
        fit(grid, packed, out)
        (dice,) = pd.read_csv(out / "history.csv")["val_dice_per_image"]
        assert dice == trial["val_dice_per_image"]


def test_a_rate_that_diverges_loses(
    grid: dict[str, Any], packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid["comparison"]["tuning"]["learning_rates"] = [1e30, 1e-3]
    fit(grid, packed, tmp_path)
    found = outcome(tmp_path)
    assert found["learning_rate"] == 1e-3
    assert found["tuning"][0] == {
        "learning_rate": 1e30,
        "epochs": 1,
        "val_dice_per_image": None,
        "diverged": True,
    }
    assert not found["tuning"][1]["diverged"]
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert said.startswith("warning: comparison.tuning: learning rate 1e+30 discarded: training")
    # Nothing of it is left in what is trained after it.
    grid["comparison"]["tuning"] = None
    grid["train"]["optimizer"]["learning_rate"] = 1e-3
    fit(grid, packed, tmp_path / "named")
    assert weights(tmp_path) == weights(tmp_path / "named")


def test_all_rates_diverge(grid: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    grid["comparison"]["tuning"]["learning_rates"] = [1e31, 1e30]
    found = r"^comparison\.tuning\.learning_rates: .* all 2 of them; name some below 1e\+30[^\n]*$"
    for _ in range(2):  # the second time nothing is tried
        with pytest.raises(InputError, match=found):
            fit(grid, packed, tmp_path)
        assert '"FAILED"' in (tmp_path / "train" / "record" / "end.json").read_text()


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Any]:
    """Filled by the first test that needs it: what an unbroken training leaves."""
    return {}


# Within the first trial, within the second, at the end of its epoch, and after it.
@pytest.mark.parametrize("saves", [1, 3, 4, 5])
def test_interrupted_among_its_trials(
    saves: int,
    grid: dict[str, Any],
    packed: Path,
    tmp_path: Path,
    unbroken: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not unbroken:
        fit(grid, packed, tmp_path / "unbroken")
        unbroken["weights"] = weights(tmp_path / "unbroken")
        unbroken["outcome"] = outcome(tmp_path / "unbroken")
    steps, done = [], []
    train_step, save = Trainer.train_step, Checkpoints.save

    def counted(self: Trainer, batch: Any) -> None:
        steps.append(1)
        train_step(self, batch)

    def interrupt(self: Checkpoints, state: dict[str, Any], step: int) -> None:
        save(self, state, step)
        done.append(step)
        if len(done) == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_step", counted)
    monkeypatch.setattr(Checkpoints, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(grid, packed, tmp_path)
    fit(grid, packed, tmp_path)
    assert weights(tmp_path) == unbroken["weights"]
    assert outcome(tmp_path) == unbroken["outcome"]
    assert len(steps) == 4 * STEPS  # none was done twice
    assert not list((tmp_path / "checkpoints").rglob("trials"))


def test_trials_go_before_the_next_begins(
    grid: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks from memory, checkpoints from disk."""
    build, made = training.build_network, []
    run = tmp_path / "checkpoints" / "mobilenetv2_035-fold0-seed0"

    def watched(*arguments: Any) -> Any:
        assert [network() for network in made] == [None] * len(made)
        assert len(list(run.rglob("trials/*/*.pt"))) == 0
        network = build(*arguments)
        made.append(weakref.ref(network))
        return network

    monkeypatch.setattr(training, "build_network", watched)
    fit(grid, packed, tmp_path)
    assert len(made) == 3


def test_the_record_says_what_was_tried(grid: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    fit(grid, packed, tmp_path)
    record, found = tmp_path / "train" / "record", outcome(tmp_path)
    params = read_run(record).params
    assert params["tuning.learning_rates"] == "[0.01, 0.0001]"
    assert params["tuning.share"] == "0.5"
    assert params["train.optimizer.learning_rate"] == "tuned"
    tags = json.loads((record / "end.json").read_text())["tags"]
    assert float(tags["tuning.learning_rate"]) == found["learning_rate"]
    assert tags["tuning.epochs"] == "2"
    assert json.loads(tags["tuning.val_dice_per_image"]) == {
        str(trial["learning_rate"]): trial["val_dice_per_image"] for trial in found["tuning"]
    }
    assert tags["epochs"] == "2"
    assert len((record / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({1e-2: 0.5, 1e-3: 0.6, 1e-4: 0.4}, 1e-3),
        ({1e-2: 0.6, 1e-3: 0.6, 1e-4: 0.4}, 1e-3),
        ({1e-2: None, 1e-3: 0.0}, 1e-3),
        ({1e-3: None, 1e-2: 0.0}, 1e-2),
        ({1e-2: None, 1e-3: None}, 1e-3),
        ({1e-3: "diverged", 1e-2: None}, 1e-2),
    ],
)
def test_which_rate_wins(scores: dict[float, Any], best: float, params: Params) -> None:
    trials = [
        Trial(rate, 1, None if dice == "diverged" else dice, dice == "diverged")
        for rate, dice in scores.items()
    ]
    assert best_recipe(params.train, trials).optimizer.learning_rate == best


def test_what_is_tried(tree: dict[str, Any]) -> None:
    tree["train"].update(num_epochs=12, freeze_encoder="all")
    tree["candidates"] = random_weights(tree)
    tree["train"]["fine_tune"] = {
        "freeze_encoder": "none",
        "num_epochs": 5,
        "learning_rate": 3e-4,
        "early_stopping": tree["train"]["early_stopping"],
    }
    assert recipes_to_try(Params.model_validate(tree)) == []
    assert _epochs(Params.model_validate(tree)) == 17
    tree["comparison"]["tuning"] = {"learning_rates": [3e-3, 1e-2], "share": 0.25}
    params = Params.model_validate(tree)
    recipes = recipes_to_try(params)
    assert [recipe.optimizer.learning_rate for recipe in recipes] == [3e-3, 1e-2]
    assert {(recipe.num_epochs, recipe.fine_tune) for recipe in recipes} == {(3, None)}
    assert _epochs(params) == 2 * 3 + 17
    same, other = (best_recipe(params.train, [Trial(rate, 3, 0.5, False)]) for rate in (3e-3, 6e-3))
    assert same == params.train
    assert other.fine_tune is not None
    assert other.fine_tune.learning_rate == pytest.approx(6e-4)
    tree["comparison"]["tuning"]["share"] = 0.01
    assert recipes_to_try(Params.model_validate(tree))[0].num_epochs == 1


def test_a_trial_too_short_for_its_schedule(
    grid: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    grid["train"]["steps_per_epoch"] = 3
    found = r"comparison\.tuning\.share: .*needs at least 4 steps, .* has 3.*raise the share"
    with pytest.raises(InputError, match=found):
        fit(grid, packed, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rates": [1e-3]}, ".learning_rates: list should have at least 2 items after"),
        ({"learning_rates": [1e-3, 0.0]}, ".learning_rates.1: input should be greater than 0"),
        (
            {"learning_rates": [1e-3, 1e-2, 1e-3]},
            ": learning_rates name [0.001] more than once; remove the repetition",
        ),
        ({"share": 0}, ".share: input should be greater than 0 (got 0)"),
        ({"share": 1.5}, ".share: input should be less than or equal to 1 (got 1.5)"),
        ({"shares": 1}, ".shares: unknown key (did you mean share"),
    ],
)
def test_bad_params(
    change: dict[str, Any], said: str, grid: dict[str, Any], tmp_path: Path
) -> None:
    grid["comparison"]["tuning"].update(change)
    assert f"comparison.tuning{said}" in problems(grid, tmp_path)


def test_rates_are_the_numbers_that_dvc_reads(tmp_path: Path) -> None:
    from dvc.utils.serialize import load_yaml

    path, committed = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    chosen = "tuning: {learning_rates: [1e-3, 3e-3], share: 1}"
    path.write_text(committed.replace("tuning: null", chosen))
    tuning = load_params(path).comparison.tuning
    assert tuning is not None
    assert tuning.learning_rates == [0.001, 0.003]
    assert load_yaml(str(path))["comparison"]["tuning"]["learning_rates"] == [0.001, 0.003]


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted(ROOT.glob("recipes/*.yaml"))])
def test_committed_params_say_that_nothing_is_tuned(path: Path) -> None:
    """By name, so that `SET="comparison.tuning=..."` finds the key."""
    comparison = YAML(typ="safe", pure=True).load(path.read_text())["comparison"]
    assert comparison["tuning"] is None


def test_who_would_lead_at_one_rate() -> None:
    def run(**scores: float | None) -> dict[str, Any]:
        rates = {"low": 1e-3, "mid": 3e-3, "high": 1e-2}
        return {
            "tuning": [
                {"learning_rate": rates[name], "val_dice_per_image": dice}
                for name, dice in scores.items()
            ]
        }

    table = trial_table(
        [
            ("small", run(high=None, low=0.5, mid=0.6)),
            ("small", run(high=0.9, low=0.7, mid=0.6)),
            ("large", run(high=None, low=0.4, mid=0.8)),
        ]
    )
    assert list(table.index) == ["small", "large"]
    assert list(table.columns) == [1e-3, 3e-3, 1e-2]
    assert table.loc["small", 1e-3] == pytest.approx(0.6)
    assert table[1e-2].isna().all()  # a mean over the other seed alone would be optimistic
    assert leaders(table) == {1e-3: "small", 3e-3: "large"}
    nothing = trial_table([("small", run()), ("large", run())])
    assert leaders(nothing) == {}


def test_damaged_trials_choose_no_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trials.json"
    trials = [Trial(1e-3, 1, 0.25, False), Trial(1e-2, 1, 0.125, False)]
    write_trials(path, trials)
    assert read_trials(path) == trials
    whole = path.read_text()
    for text in (whole.replace("0.125", "0.525"), whole[:-9], ""):
        path.write_text(text)
        assert read_trials(path) == []
        assert "trials.json: damaged; the trials are made again" in capsys.readouterr().err
