"""A real MLflow server, what it holds, and a record to send to it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from segbench.tracking.records import DatasetInput, Record, Run, now_ms
from segbench.tracking.views import Pictures, describe_views, rank_metric


def write_record(folder: Path, stage: str = "train", **changes: object) -> Run:
    fields = {
        "id": "a" * 32,
        "stage": stage,
        "experiment": "polyps",
        "name": "resnet18-fold0-seed0",
        "started_ms": now_ms(),
        "params": {f"train.p{number}": str(number) for number in range(129)}
        | {"augment.transforms": "x" * 9000},
        "tags": {"dvc.stage": "train@resnet18-0-0", "mlflow.source.git.commit": "c" * 40},
        "inputs": [DatasetInput("polyps", "d" * 16, "data/arrays/fold0", {"images": 3})],
    }
    run = Run(**{**fields, **changes})  # type: ignore[arg-type]
    with Record(folder, run) as record:
        for step in range(3):
            record.log(step, {"epoch/val_loss": 1 / (step + 1), "epoch/val_dice": step / 3})
        Image.new("RGB", (8, 8)).save(record.artifact("pictures/best.png"))
        Image.new("RGB", (8, 8)).save(record.artifact("images/prediction~s1.png"))
        record.tags["best_epoch"] = "2"
    return run


def everything(uri: str) -> dict[str, object]:
    """All that a tracking server holds, in a form to compare."""
    from segbench.tracking.client import connect

    client = connect(uri)  # a follower may be initialising the same database
    found: dict[str, object] = {}
    for experiment in client.search_experiments(filter_string="name != 'Default'"):
        for run in client.search_runs([experiment.experiment_id]):
            points = {
                key: [
                    (point.step, point.value, point.timestamp)
                    for point in client.get_metric_history(run.info.run_id, key)
                ]
                for key in run.data.metrics
            }
            files = [
                inner.path
                for outer in client.list_artifacts(run.info.run_id)
                for inner in client.list_artifacts(run.info.run_id, outer.path)
            ]
            found[run.info.run_name] = (
                run.info.status,
                points,
                run.data.params,
                run.data.tags,
                files,
                [entry.dataset.digest for entry in run.inputs.dataset_inputs],
                len(client.search_logged_models([experiment.experiment_id])),
            )
    return found


def write_comparison(folder: Path, name: str = "comparison", scale: float = 1.0) -> list[Path]:
    """Records of a comparison and of its four runs, of two candidates and two seeds."""
    kinds = {"good": 0.8 * scale, "bad": 0.4 * scale}
    scores, costs = ["test/dice_per_image", "val/dice_per_image"], ["cost/parameters_M"]
    ids = {(alias, seed): uuid.uuid4().hex for alias in kinds for seed in (0, 1)}
    for (alias, seed), id in ids.items():
        params = {"candidate.alias": alias, "fold": "0", "seed": str(seed)}
        run = Run(id, "train", "polyps", f"{alias}-fold0-seed{seed}", now_ms(), params)
        with Record(folder / run.name, run) as record:
            for step in range(3):
                value = kinds[alias] * (step + 1 - seed / 4) / 3
                record.log(step, {"epoch/val_dice_per_image": value, "epoch/val_loss": 1 - value})
            record.log(0, dict.fromkeys(scores, kinds[alias] + seed / 100))
            for at in range(2):
                colour = (200, 90 * at, 80)
                Image.new("RGB", (64, 64), colour).save(
                    record.artifact(f"images/prediction~s{at}.png")
                )
    record_id = uuid.uuid4().hex
    pictures = Pictures(0, 0, ["prediction/s0", "prediction/s1"])
    run = Run(
        *(record_id, "compare", "polyps", f"{name}: good leads 2 candidates", now_ms()),
        comparison=name,
        children=[*ids.values()],
        child_metrics={
            id: {rank_metric(name): 1.0 + (alias == "bad"), "cost/parameters_M": 5.0}
            for (alias, _), id in ids.items()
        },
        views=describe_views(name, record_id, [*kinds], scores, costs, now_ms(), pictures),
    )
    with Record(folder / "comparison", run):
        pass
    return [*folder.iterdir()]


@contextmanager
def pages(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The process of `segbench ui` in a folder: where it serves, and what it says meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).touch()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "segbench", "ui", "--port", str(port), "--no-browser"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    assert process.stderr is not None
    try:
        for line in process.stderr:
            said.append(line.rstrip())
            if said[-1].endswith("-pictures"):
                break
        yield f"http://127.0.0.1:{port}", said
    finally:
        process.send_signal(signal.SIGINT)
        said += process.stderr.read().splitlines()
        assert process.wait() == 130


@contextmanager
def server(folder: Path, port: int = 0) -> Iterator[str]:
    """A real MLflow server process on loopback."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(900):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the server did not start"
                time.sleep(0.2)
        else:
            raise AssertionError("the server does not answer")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
