"""The record is the truth; MLflow is filled from it, once, whatever happens to the server."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segbench.exports.program import export_network
from segbench.models.network import build_network
from segbench.params import Params
from segbench.params.model import Candidate, Model
from segbench.tracking.address import repository_root, tracking_uri
from segbench.tracking.client import UNREACHABLE
from segbench.tracking.records import (
    ModelFile,
    Record,
    Run,
    metrics_line,
    now_ms,
    read_run,
    recorded,
)
from segbench.tracking.replay import Replay, replay
from segbench.tracking.views import unpacked
from segbench.training.trainer import Trainer
from support.mlflow_server import everything, server, write_comparison, write_record
from support.pipeline import fit_one

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


def test_replaying_twice_changes_nothing(offline: Callable[[], str], tmp_path: Path) -> None:
    write_record(tmp_path / "record")
    replay([tmp_path / "record"], offline())
    first = everything(offline())
    status, points, params, tags, files, digests, _ = first["resnet18-fold0-seed0"]  # type: ignore[misc]
    assert status == "FINISHED"
    assert [step for step, _, _ in points["epoch/val_loss"]] == [0, 1, 2]
    assert len(params) == 130
    assert tags["dvc.stage"] == "train@resnet18-0-0"
    assert tags["best_epoch"] == "2"
    assert digests == ["d" * 16]
    assert any(name.startswith("images/prediction~s1+step+0") for name in files)
    replay([tmp_path / "record"], offline())
    assert everything(offline()) == first


def test_a_record_of_before_says_part_for_stage(tmp_path: Path) -> None:
    run = write_record(tmp_path, "evaluate")
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"stage": ', '"part": '))
    assert read_run(tmp_path) == run


def test_a_replay_that_was_cut_off_goes_on(offline: Callable[[], str], tmp_path: Path) -> None:
    """Everything is sent anew, and MLflow still holds each point once."""
    write_record(tmp_path / "record")
    replay([tmp_path / "record"], offline())
    first = everything(offline())
    from mlflow.tracking import MlflowClient

    client = MlflowClient(offline())
    (run,) = client.search_runs([client.get_experiment_by_name("polyps").experiment_id])
    client.delete_tag(run.info.run_id, "segbench.replayed.train")  # as if the last step were lost
    replay([tmp_path / "record"], offline())
    assert everything(offline()) == first


def _comparison(folder: Path, id: str, name: str, made: int) -> Run:
    """A record of a comparison of the run of `write_record`."""
    return write_record(
        folder,
        "compare",
        id=id,
        name=f"{name}: resnet18 leads 1 candidate",
        params={},
        comparison=name,
        children=["a" * 32],
        child_metrics={"a" * 32: {f"{name}/rank": 1.0, "cost/parameters_M": 12.5}},
        views={f"{name}-cost": json.dumps({"name": name, "createdAt": made, "state": "{}"})},
    )


def test_two_comparisons_of_one_experiment(offline: Callable[[], str], tmp_path: Path) -> None:
    """Each has its views and finds its runs, also those that both compare; twice is once."""
    write_record(tmp_path / "run")
    _comparison(tmp_path / "one", "1" * 32, "one", 1000)
    _comparison(tmp_path / "two", "2" * 32, "two", 2000)
    folders = [tmp_path / name for name in ("two", "run", "one")]
    replay(folders, offline())
    from mlflow.tracking import MlflowClient

    client = MlflowClient(offline())

    def views() -> dict[str, str]:
        tags = client.get_experiment_by_name("polyps").tags
        return {key: value for key, value in tags.items() if "sharedViewState" in key}

    first, shown = everything(offline()), views()
    assert {*shown} == {"mlflow.sharedViewState.one-cost", "mlflow.sharedViewState.two-cost"}
    _, points, _, tags, *_ = first["resnet18-fold0-seed0"]  # type: ignore[misc]
    assert tags["segbench.comparison.one"] == "1" * 32
    assert tags["segbench.comparison.two"] == "2" * 32
    assert [value for _, value, _ in points["one/rank"]] == [1.0]
    assert [value for _, value, _ in points["two/rank"]] == [1.0]
    replay(folders, offline())
    assert (everything(offline()), views()) == (first, shown)
    # The same comparison anew takes the place of the former, and not the other way round.
    for id, made in (("4" * 32, 4000), ("3" * 32, 3000)):
        _comparison(tmp_path / id, id, "one", made)
        replay([tmp_path / id], offline())
        assert json.loads(views()["mlflow.sharedViewState.one-cost"])["createdAt"] == 4000


@pytest.mark.slow
def test_sync_brings_the_views_to_a_server(tmp_path: Path) -> None:
    """By the records alone, which is all that a clone gets."""
    write_comparison(tmp_path / "data")
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    command = [sys.executable, "-m", "segbench", "sync"]
    with server(tmp_path / "server") as uri:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
        said = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
        assert said == f"5 records are in {uri}\n"
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        tags = client.get_experiment_by_name("polyps").tags
        own = unpacked(tags["mlflow.sharedViewState.comparison-cost"])["searchFilter"]
        found = client.search_runs(["1"], own)
    assert {run.info.run_name for run in found} == {
        f"{alias}-fold0-seed{seed}" for alias in ("bad", "good") for seed in (0, 1)
    }


@pytest.mark.slow
def test_live_dead_and_back_again(tmp_path: Path) -> None:
    """A server that dies in the middle costs a warning; a later replay completes the run, once."""
    folder = tmp_path / "record"
    run = write_record(tmp_path / "done", id="b" * 32, name="other")
    with server(tmp_path / "server") as uri:
        port = int(uri.rsplit(":", 1)[1])
        growing = Replay(_started(folder), uri)
        growing.advance()
        assert not growing.done
        assert everything(uri)["resnet18-fold0-seed0"][0] == "RUNNING"  # type: ignore[index]
    _finish(folder)
    with pytest.raises(UNREACHABLE):
        growing.advance()
    with server(tmp_path / "server", port) as uri:
        growing.advance()
        assert growing.done
        replay([folder, tmp_path / "done"], uri)
        found = everything(uri)
    assert set(found) == {"resnet18-fold0-seed0", run.name}
    status, points, *_ = found["resnet18-fold0-seed0"]  # type: ignore[misc]
    assert status == "FINISHED"
    assert [step for step, _, _ in points["loss"]] == [0, 1]


def _started(folder: Path) -> Path:
    run = Run("c" * 32, "train", "polyps", "resnet18-fold0-seed0", now_ms())
    record = Record(folder, run)
    record.log(0, {"loss": 1.0})
    return folder


def _append(folder: Path, text: str) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(text)


def _finish(folder: Path) -> None:
    _append(folder, metrics_line(1, {"loss": 0.5}))
    (folder / "end.json").write_text('{"status": "FINISHED", "time_ms": 1, "tags": {}}')


def test_a_line_that_is_half_written_waits(tmp_path: Path, offline: Callable[[], str]) -> None:
    """Wherever it was cut; once it is whole, it is sent, and only once."""
    folder = _started(tmp_path / "record")
    growing = Replay(folder, offline())
    line = metrics_line(1, {"loss": 0.5})
    for start, end in pairwise((0, 1, len(line) // 2, len(line) - 1)):
        _append(folder, line[start:end])
        growing.advance()
        assert _losses(offline()) == [0]
    _append(folder, line[-1:] + metrics_line(2, {"loss": 0.25}).rstrip("\n"))
    growing.advance()
    assert _losses(offline()) == [0, 1]
    _append(folder, "\n")
    growing.advance()
    growing.advance()
    assert _losses(offline()) == [0, 1, 2]


def _losses(uri: str) -> list[int]:
    """Steps of the loss that MLflow holds, as often as it holds them."""
    points = everything(uri)["resnet18-fold0-seed0"][1]  # type: ignore[index]
    return [step for step, *_ in points["loss"]]


@contextmanager
def ill_server(stalls: bool) -> Iterator[str]:
    """A server that answers everything with 500, or not at all."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if stalls:
                over.wait(60)
            with suppress(OSError):  # who asked has hung up
                self.send_error(500)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{web.server_port}"
    finally:
        over.set()
        web.shutdown()
        web.server_close()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("answers 500", "stalls")]


@pytest.mark.parametrize("illness", ["gone", *SLOW])
def test_an_ill_server_does_not_disturb_the_work(
    illness: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = Run("e" * 32, "train", "polyps", "alone", now_ms())
    with ill_server(illness == "stalls") as uri:
        # Nobody listens at port 9.
        uri = "http://127.0.0.1:9" if illness == "gone" else uri
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        started = time.monotonic()
        with recorded(tmp_path / "record", run, 20) as record:
            record.log(0, {"loss": 1.0})
        assert time.monotonic() - started < 25
    assert (tmp_path / "record" / "end.json").exists()
    said = capfd.readouterr().err
    assert said.count("warning: ") == 1
    assert f"; it is whole in {tmp_path / 'record'}, " in said
    assert "'segbench sync' brings " in said
    assert "Traceback" not in said


def test_a_follower_brings_the_run_while_it_grows(
    tmp_path: Path, offline: Callable[[], str]
) -> None:
    run = Run("f" * 32, "train", "polyps", "live", now_ms())
    with recorded(tmp_path / "record", run, 60) as record:
        record.log(0, {"loss": 1.0})
        for _ in range(300):
            if "live" in everything(offline()):
                break
            time.sleep(0.2)
        status, *_ = everything(offline())["live"]  # type: ignore[misc]
        assert status == "RUNNING"
        record.log(1, {"loss": 0.5})
    status, points, *_ = everything(offline())["live"]  # type: ignore[misc]
    assert status == "FINISHED"
    assert [step for step, _, _ in points["loss"]] == [0, 1]


@pytest.mark.slow
def test_a_follower_ends_with_a_stage_that_is_killed_at_once(tmp_path: Path) -> None:
    program = """if True:
        import os, pathlib, signal
        from segbench.tracking.records import Run, recorded
        with recorded(pathlib.Path("record"), Run("a" * 32, "train", "polyps", "dead", 0), 60):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    # Returns once nobody can write to its output any more, the follower included.
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, timeout=120
    )
    assert done.returncode == -signal.SIGKILL


def test_a_follower_ends_with_a_stage_that_records_nothing(tmp_path: Path) -> None:
    program = "from segbench import stage; stage.main('mine:work', tracked=True)"
    mine = "from segbench.params import Params\ndef work(params: Params) -> str: ...\n"
    (tmp_path / "mine.py").write_text(mine)
    done = subprocess.run(
        [sys.executable, "-c", program, "--params", "none.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == "error: mine: none.yaml: not found; run from the repository's root\n"


def test_evaluation_joins_its_training_and_a_comparison_adopts(
    offline: Callable[[], str], tmp_path: Path
) -> None:
    train = write_record(tmp_path / "train")
    write_record(
        tmp_path / "evaluate",
        "evaluate",
        id=train.id,
        params={},
        tags={"evaluate.threshold": "0.5"},
    )
    write_record(
        tmp_path / "compare", "compare", id="9" * 32, name="comparison", children=[train.id]
    )
    replay([tmp_path / name for name in ("compare", "evaluate", "train")], offline())
    from mlflow.tracking import MlflowClient

    client = MlflowClient(offline())
    runs = client.search_runs([client.get_experiment_by_name("polyps").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert set(by_name) == {train.name, "comparison"}
    child = by_name[train.name]
    assert child.data.tags["mlflow.parentRunId"] == by_name["comparison"].info.run_id
    assert child.data.tags["evaluate.threshold"] == "0.5"


def test_the_logged_model_loads_and_takes_any_size(
    offline: Callable[[], str], tmp_path: Path
) -> None:
    import mlflow

    torch.manual_seed(0)
    network = build_network(
        Model(
            architecture="unet",
            architecture_args={"decoder_channels": [16, 16, 8, 8, 8]},
            in_channels=3,
        ),
        Candidate(
            encoder="resnet18",
            encoder_args={},
            weights="none",
            weights_sha256=None,
            input_scaling="imagenet",
            train_share=1.0,
        ),
        1,
    ).eval()
    export_network(network, 3, tmp_path / "model.pt2")
    write_record(tmp_path / "record", model=ModelFile("../model.pt2", 3, 1))
    replay([tmp_path / "record"], offline())
    mlflow.set_tracking_uri(offline())
    experiment = mlflow.get_experiment_by_name("polyps").experiment_id
    (logged,) = mlflow.search_logged_models([experiment], output_format="list")
    assert logged.name == "resnet18-fold0-seed0"
    model = mlflow.pyfunc.load_model(logged.model_uri)
    assert "uint8" in str(model.metadata.signature.inputs)
    for shape in ((1, 3, 64, 64), (3, 3, 96, 128)):
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        assert np.allclose(model.predict(images), expected, atol=1e-4)


def test_experiments_of_dvc_go_to_the_repository_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    (copy / ".dvc").mkdir(parents=True)
    assert repository_root(copy) == tmp_path
    assert tracking_uri(copy) == tracking_uri(tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.slow
def test_a_fresh_database_survives_many_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    processes = []
    for number in range(4):
        write_record(tmp_path / str(number), id=f"{number:032x}", name=f"run{number}")
        command = [sys.executable, "-m", "segbench", "sync", str(tmp_path / str(number))]
        processes.append(subprocess.Popen(command, env=environment))
    assert [process.wait() for process in processes] == [0] * 4
    assert len(everything(environment["MLFLOW_TRACKING_URI"])) == 4


@pytest.mark.slow
def test_a_locked_database_is_filled_later(
    offline: Callable[[], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "other", name="other", id="9" * 32)
    replay([tmp_path / "other"], offline())
    run = Run("e" * 32, "train", "polyps", "late", now_ms())
    with sqlite3.connect(offline().removeprefix("sqlite:///")) as database:
        database.execute("BEGIN EXCLUSIVE")
        with recorded(tmp_path / "record", run, 20) as record:
            record.log(0, {"loss": 1.0})
        assert "MLflow did not take the run" in capfd.readouterr().err
        database.rollback()
    replay([tmp_path / "record"], offline())
    status, points, *_ = everything(offline())["late"]  # type: ignore[misc]
    assert status == "FINISHED"
    assert [(step, value) for step, value, _ in points["loss"]] == [(0, 1.0)]


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_training(
    tree: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And started again: every metric of every epoch is there once."""
    tree["train"]["num_epochs"] = 8
    tree["tracking"]["max_wait_s"] = 90
    original = Trainer.end_epoch
    with ExitStack() as first, ExitStack() as second:
        uri = first.enter_context(server(tmp_path / "server"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        seen: list[int] = []

        def slowly(self: Trainer, *arguments: Any) -> None:
            original(self, *arguments)
            if self.state.epoch == 2:
                while "epoch/val_loss" not in _points(uri):
                    time.sleep(0.2)
                seen.append(len(_points(uri)["epoch/val_loss"]))
                first.close()
            if self.state.epoch == 6:
                second.enter_context(server(tmp_path / "server", int(uri.rsplit(":", 1)[1])))
            time.sleep(1)

        monkeypatch.setattr(Trainer, "end_epoch", slowly)
        fit_one(Params.model_validate(tree), packed, tmp_path)
        assert 1 <= seen[0] <= 2
        points = _points(uri)
        status, *_ = everything(uri)["mobilenetv2_035-fold0-seed0"]  # type: ignore[misc]
    assert status == "FINISHED"
    assert {tuple(step for step, _, _ in rows) for rows in points.values()} == {tuple(range(8))}
    assert "epoch/train_loss" in points


def _points(uri: str) -> dict[str, list[tuple[int, float, int]]]:
    """Of the training that is in MLflow, as far as it is."""
    found = everything(uri).get("mobilenetv2_035-fold0-seed0")
    return found[1] if found else {}  # type: ignore[index]


KILLED = """\
import os, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from segbench.tracking import database
begin = sys.argv[2]

@event.listens_for(Engine, "before_cursor_execute")
def kill(connection, cursor, statement, *_):
    if statement.lstrip().startswith(begin):
        os._exit(9)

{call}(Path(sys.argv[1]))
"""
HALF_WAY = [
    "ALTER TABLE _alembic_tmp_latest_metrics",  # a table is being replaced
    "CREATE INDEX index_job_locks_job_id",  # all are there, but not all that is in them
]


def killed(path: Path, statement: str, call: str) -> None:
    """A database whose making ends like a killed process, at a statement."""
    command = [sys.executable, "-c", KILLED.format(call=call), str(path), statement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr


@pytest.mark.parametrize("statement", HALF_WAY)
def test_a_database_that_was_left_half_made_is_replaced(
    statement: str, offline: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mlflow.db"
    killed(path, statement, "database._open")
    half = path.read_bytes()
    os.utime(path, (0, 0))
    write_record(tmp_path / "record")
    replay([tmp_path / "record"], offline())
    (said,) = re.findall("mended: .*", capsys.readouterr().err)
    assert said.startswith(f"mended: {path} was left half made by a kill or a full disk, and held")
    assert (
        "it is kept as mlflow.db-broken-1, and a new one is made, to which 'segbench sync'" in said
    )
    assert (tmp_path / "mlflow.db-broken-1").read_bytes() == half
    assert list(everything(offline())) == ["resnet18-fold0-seed0"]
    assert "mended" not in capsys.readouterr().err


def test_a_database_appears_whole(offline: Callable[[], str], tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    killed(path, HALF_WAY[0], "database.prepare_database")
    assert not path.exists()
    path.touch()  # of a disk that was full at once
    write_record(tmp_path / "record")
    replay([tmp_path / "record"], offline())
    assert list(everything(offline())) == ["resnet18-fold0-seed0"]
    assert not list(tmp_path.glob(".partial-*"))


def test_what_is_no_database_is_replaced(offline: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"torn" * 1000)
    write_record(tmp_path / "record")
    replay([tmp_path / "record"], offline())
    assert list(everything(offline())) == ["resnet18-fold0-seed0"]


def test_a_database_that_holds_runs_is_never_moved(
    offline: Callable[[], str], tmp_path: Path
) -> None:
    """As one of another version of MLflow, which has its own command to convert it."""
    write_record(tmp_path / "record")
    replay([tmp_path / "record"], offline())
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'older'")
    with pytest.raises(UNREACHABLE, match="out-of-date database schema"):
        replay([tmp_path / "record"], offline())
    assert not list(tmp_path.glob("mlflow.db-broken*"))
