"""A training that is killed goes on from its last checkpoint, and ends as if it had not been."""

import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

from segbench import files, stage
from segbench.arrays.batches import Batch
from segbench.errors import WAYS_OUT, InputError
from segbench.models.network import SegmentationNetwork
from segbench.params import Params
from segbench.tracking.records import Record, Run, now_ms
from segbench.training import checkpoints, learner
from segbench.training.checkpoints import Checkpoints
from segbench.training.learner import Learner
from segbench.training.trainer import Trainer
from support.params import random_weights
from support.pipeline import fit_one, outcome, stop_after_an_epoch

# MLflow's own use of others.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("offline")]

# Children of a process that has not computed anything: fast to start, and safe to fork.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["segbench.training.train"])


@pytest.fixture
def everything_on(tree: dict[str, Any]) -> dict[str, Any]:
    """All that has a state: trials, phases, an average, dropout, a schedule, patience,
    variations."""
    tree["candidates"] = random_weights(tree)
    tree["candidates"]["mobilenetv2_035"]["encoder_args"] = {"drop_path_rate": 0.5}
    tree["train"].update(
        num_epochs=3,
        steps_per_epoch=3,
        ema_decay=0.9,
        freeze_encoder="all",
        fine_tune={
            "freeze_encoder": "none",
            "num_epochs": 3,
            "learning_rate": 1e-3,
            "early_stopping": {"patience": 3, "min_delta": 0.0, "min_epochs": 0},
        },
    )
    tree["train"]["schedule"]["name"] = "cosine"
    tree["comparison"]["tuning"] = {"learning_rates": [1e-4, 3e-3], "share": 0.3}
    tree["hardware"].update(threads=1, workers=0)
    tree["checkpoints"].update(steps=2)
    tree["tracking"]["max_wait_s"] = 120
    return tree


def _train(
    tree: dict[str, Any], packed: Path, out: Path, uri: str, kill_at: int | None, by: signal.Signals
) -> None:
    """In a process of its own: train, and be killed at one of the moments that matter."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    seen = 0

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def before(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen - 1 == kill_at:
                os.kill(os.getpid(), by)
            return call(*arguments, **named)

        return before

    # Steps, epochs, and the moments between a checkpoint's temporary file, its name, and the line
    # in the record.
    Trainer.train_step = watched(Trainer.train_step)  # type: ignore[method-assign]
    Trainer.validate = watched(Trainer.validate)  # type: ignore[method-assign]
    Checkpoints.save = watched(Checkpoints.save)  # type: ignore[method-assign]
    Record.write = watched(Record.write)  # type: ignore[method-assign]
    files.os.replace = watched(os.replace)  # type: ignore[assignment]
    stage.run("train", lambda: fit_one(Params.model_validate(tree), packed, out))
    (out / "seen.txt").write_text(str(seen))


def start(*arguments: Any, by: signal.Signals = signal.SIGKILL) -> int:
    process = CONTEXT.Process(target=_train, args=(*arguments, by))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def tidy(out: Path) -> None:
    """What DVC does before it runs a stage again."""
    shutil.rmtree(out / "train", ignore_errors=True)


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Any]:
    """Filled by the first test that needs it: what an unbroken training leaves."""
    return {}


def kill_twice(tree: dict[str, Any], packed: Path, out: Path, seed: int, want: Any) -> None:
    uri = f"sqlite:///{out / 'mlflow.db'}"
    if not want:
        whole = out / "unbroken"
        whole.mkdir()
        assert start(tree, packed, whole, f"sqlite:///{whole / 'mlflow.db'}", None) == 0
        want["weights"] = (whole / "train/weights.safetensors").read_bytes()
        want["history"] = (whole / "history.csv").read_text()
        want["outcome"] = outcome(whole)
        want["moments"] = int((whole / "seen.txt").read_text())
    draw, by = random.Random(seed), (signal.SIGKILL, signal.SIGTERM)[seed % 2]
    for moment in (draw.randrange(want["moments"]), draw.randrange(want["moments"] // 2)):
        if start(tree, packed, out, uri, moment, by=by) == 0:
            break  # what was left had fewer moments
        tidy(out)
    else:
        assert start(tree, packed, out, uri, None) == 0
    assert (out / "train/weights.safetensors").read_bytes() == want["weights"]
    assert (out / "history.csv").read_text() == want["history"]
    assert outcome(out) == want["outcome"]
    (mark,) = (out / "checkpoints").glob("mobilenetv2_035-fold0-seed0/*/finished")
    told = hashlib.md5((out / "run.json").read_bytes(), usedforsecurity=False).hexdigest()
    assert mark.read_text().strip() == told

    client = MlflowClient(uri)
    experiments = [found.experiment_id for found in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    assert run.info.status == "FINISHED"
    epochs = len(want["history"].splitlines()) - 1
    for key in run.data.metrics:
        points = client.get_metric_history(run.info.run_id, key)
        assert sorted(point.step for point in points) == list(range(epochs)), key


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_killed_at_any_moment(
    everything_on: dict[str, Any], packed: Path, tmp_path: Path, unbroken: Any, seed: int
) -> None:
    kill_twice(everything_on, packed, tmp_path, seed, unbroken)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(3, 23))
def test_killed_at_many_moments(
    everything_on: dict[str, Any], packed: Path, tmp_path: Path, unbroken: Any, seed: int
) -> None:
    kill_twice(everything_on, packed, tmp_path, seed, unbroken)


def test_a_training_that_ended_trains_no_epoch_again(
    params: Params, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a kill comes before DVC has noted that it ended."""
    fit_one(params, packed, tmp_path)
    made = (tmp_path / "train/weights.safetensors").read_bytes()
    told = (tmp_path / "run.json").read_bytes()
    tidy(tmp_path)
    monkeypatch.delattr(Trainer, "train_step")
    assert "2 epochs in" in (said := fit_one(params, packed, tmp_path))
    assert "resumed at epoch 2" in said
    assert (tmp_path / "train/weights.safetensors").read_bytes() == made
    assert (tmp_path / "run.json").read_bytes() == told


def test_another_recipe_does_not_go_on_from_a_checkpoint(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "checkpoints" / "mobilenetv2_035-fold0-seed0"
    stop_after_an_epoch(tree, packed, tmp_path)
    (before,) = filter(Path.is_dir, saved.iterdir())
    tree["train"]["optimizer"]["weight_decay"] = 0.02
    stop_after_an_epoch(tree, packed, tmp_path)
    (after,) = filter(Path.is_dir, saved.iterdir())
    assert before != after
    said = fit_one(Params.model_validate(tree), packed, tmp_path)
    assert "resumed at epoch 1" in said


def test_the_first_epoch_may_be_the_best_of_a_resumed_run(
    tree: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights come from a checkpoint whose file later ones are written into."""
    tree["train"].update(num_epochs=5)
    monkeypatch.setattr(Trainer, "_selection_score", lambda self, row: -row["epoch"])
    fit_one(Params.model_validate(tree), packed, tmp_path / "unbroken")
    stop_after_an_epoch(tree, packed, tmp_path / "broken")
    assert "resumed at epoch 1" in fit_one(Params.model_validate(tree), packed, tmp_path / "broken")
    unbroken, broken = (
        (tmp_path / name / "train" / "weights.safetensors").read_bytes()
        for name in ("unbroken", "broken")
    )
    assert broken == unbroken


def test_a_resumed_run_has_not_forgotten_how_long_it_waited(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    tree["train"].update(num_epochs=5)
    tree["train"]["early_stopping"] = {"patience": 2, "min_delta": 100.0, "min_epochs": 0}
    stop_after_an_epoch(tree, packed, tmp_path)
    fit_one(Params.model_validate(tree), packed, tmp_path)
    epochs = (tmp_path / "history.csv").read_text().splitlines()[1:]
    assert len(epochs) == 3  # the first is better than none, the others do not count as better


def test_a_run_that_another_process_trains_is_left_alone(
    params: Params, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOCK_TIMEOUT_S", 0.1)
    run = tmp_path / "checkpoints" / "mobilenetv2_035-fold0-seed0"
    with (
        Checkpoints(run, "key").locked(),
        pytest.raises(InputError, match="seed0 is being trained by another process"),
    ):
        fit_one(params, packed, tmp_path)


def test_a_checkpoint_is_due_by_the_clock(
    tree: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree["train"].update(num_epochs=1, steps_per_epoch=9)
    tree["checkpoints"].update(steps=None, minutes=1e-6)
    saved: list[int] = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, state, step: saved.append(step))
    fit_one(Params.model_validate(tree), packed, tmp_path)
    assert saved == [8, 9]


def test_a_checkpoint_holds_an_epoch_before_the_record_does(
    params: Params, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an epoch that is done again after a kill would be logged at two times."""
    saved: list[str] = []
    save, write = Checkpoints.save, Record.write

    def noting_save(self: Checkpoints, state: dict[str, Any], step: int) -> None:
        save(self, state, step)
        saved[:] = state["lines"]

    def noting_write(self: Record, line: str) -> None:
        assert line == saved[-1]
        write(self, line)

    monkeypatch.setattr(Checkpoints, "save", noting_save)
    monkeypatch.setattr(Record, "write", noting_write)
    fit_one(params, packed, tmp_path)
    assert len(saved) == 2


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Checkpoints(tmp_path / "run", "key")
    for step in (0, 1, 2, 3):
        kept.save({"step": step}, step)
    names = sorted(path.name for path in (tmp_path / "run" / "key").iterdir())
    assert len(names) == checkpoints.KEPT == 3
    assert kept.load_latest() == {"step": 3}
    newest = tmp_path / "run" / "key" / names[-1]
    whole = newest.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"step") + 8] ^= 1
    for content in (whole[:200], whole[:-3], b"", flipped):
        newest.write_bytes(content)
        assert kept.load_latest() == {"step": 2}
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"warning: {newest}: damaged (")
        assert said.endswith("; taking the one before it")
    newest.write_bytes(whole)
    assert kept.load_latest() == {"step": 3}


def test_a_full_disk_leaves_the_last_two(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "run", "key")
    for step in range(4):
        kept.save({"step": step}, step)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            kept.save({"step": 4, "weights": torch.zeros(10**6)}, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.errno in WAYS_OUT
    names = sorted(path.name for path in (tmp_path / "run" / "key").iterdir())
    assert names == ["000000002.pt", "000000003.pt"]
    assert kept.load_latest() == {"step": 3}


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    first = Run("a" * 32, "train", "polyps", "name", now_ms())
    assert Checkpoints(tmp_path, "key").same_run(first) == first
    later = Run("b" * 32, "train", "polyps", "name", now_ms())
    assert Checkpoints(tmp_path, "key").same_run(later) == first
    assert Checkpoints(tmp_path, "other").same_run(later) == later


@pytest.mark.parametrize("torn", ["", '{"id": "a', "[]", '{"id": "a"}', "null"])
def test_a_torn_description_stops_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], torn: str
) -> None:
    run = Run("a" * 32, "train", "polyps", "name", now_ms())
    kept = Checkpoints(tmp_path, "key")
    kept.same_run(run)
    (kept.folder / "run.json").write_text(torn)
    later = Run("b" * 32, "train", "polyps", "name", now_ms())
    assert kept.same_run(later) == later
    (said,) = capsys.readouterr().err.splitlines()
    assert "run.json: damaged; the training goes on" in said
    assert kept.same_run(run) == later


def spoil(patch: pytest.MonkeyPatch, at: list[int]) -> None:
    """Let the loss be no number at some steps, counted over all tries."""
    tried = iter(range(10**6))
    original = learner.WeightedLoss.forward

    def forward(self: Any, logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        loss = original(self, logits, mask)
        if torch.is_grad_enabled() and next(tried) in at:
            return loss * float("nan")
        return loss

    patch.setattr(learner.WeightedLoss, "forward", forward)


def test_going_back_lowers_the_rate(
    tree: dict[str, Any],
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree["train"].update(num_epochs=2, steps_per_epoch=3)
    tree["train"]["schedule"]["name"] = "constant"
    tree["train"]["on_non_finite"] = {"rollbacks": 2, "factor": 0.5}
    spoil(monkeypatch, [1, 8])
    fit_one(Params.model_validate(tree), packed, tmp_path)
    history = (tmp_path / "history.csv").read_text().splitlines()
    rates = [float(row.split(",")[-1]) for row in history[1:]]
    assert rates == [1.5e-3, 0.75e-3]
    said = capsys.readouterr().err
    assert "the loss is not finite at epoch 0, step 1 (samples" in said
    assert "rolled back to step 0, continuing at 0.5 of" in said
    assert "rolled back to step 3, continuing at 0.25 of" in said
    assert '"rollbacks": "2"' in (tmp_path / "train/record/end.json").read_text()
    assert outcome(tmp_path)["rollbacks"] == 2


def test_going_back_is_bounded(
    tree: dict[str, Any],
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree["train"]["on_non_finite"] = {"rollbacks": 2, "factor": 0.5}
    spoil(monkeypatch, list(range(100)))
    with pytest.raises(InputError, match=r"epoch 0, step 0 .* after 2 rollbacks; lower"):
        fit_one(Params.model_validate(tree), packed, tmp_path)
    assert not (tmp_path / "train/weights.safetensors").exists()


def test_a_gradient_that_is_no_number_is_named(
    tree: dict[str, Any],
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, done = Learner.backward, iter(range(10**6))

    def backward(self: Learner, batch: Batch) -> torch.Tensor:
        loss = original(self, batch)
        if next(done) == 4:
            next(self.network.parameters()).grad[0] = float("inf")  # type: ignore[index]
        return loss

    monkeypatch.setattr(Learner, "backward", backward)
    tree["train"].update(steps_per_epoch=3)
    with pytest.raises(InputError, match=r"a gradient is not finite at epoch 1, step 1"):
        fit_one(Params.model_validate(tree), packed, tmp_path)


def run_out_of_memory(patch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A device that takes no more than so many images at a time; returns what it was given."""
    given: list[int] = []
    original = SegmentationNetwork.forward

    def forward(self: SegmentationNetwork, images: torch.Tensor) -> torch.Tensor:
        given.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError("no more")
        return original(self, images)

    patch.setattr(SegmentationNetwork, "forward", forward)
    return given


def test_out_of_memory_says_what_to_try(
    tree: dict[str, Any],
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_out_of_memory(monkeypatch, 1)
    with pytest.raises(InputError, match=r"4 images 64x64 at a time do not fit; .*batch_size: 2"):
        fit_one(Params.model_validate(tree), packed, tmp_path)
