"""Replays records into MLflow, which only this module, `database` and `mlflow_model` import.

Replaying is idempotent: a run is identified by the id in its record, a metric point by its time
stamp, an artifact by its name. So the same function works while a stage runs (a process follows
the growing record) and afterwards (anyone with a record can replay it into their own MLflow).
"""

import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

# Set before importing MLflow, which would else send telemetry, print two addresses for each run,
# and retry a dead server for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
import mlflow
from filelock import FileLock
from mlflow.entities import Dataset, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.entities import DatasetInput as MlflowDatasetInput
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from segbench.errors import without_secrets
from segbench.tracking.address import ARTIFACTS
from segbench.tracking.database import prepare_database
from segbench.tracking.follower import TOLD
from segbench.tracking.mlflow_model import log_model
from segbench.tracking.reasons import reason_of
from segbench.tracking.records import read_run
from segbench.tracking.views import COMPARISON_TAG, TAG, made_ms

RUN_TAG = "segbench.run"
POLL_S = 1.0
LONGEST_PAUSE_S = 30.0
# Errors of a server that is down, failing or locked; those of requests are OSErrors.
UNREACHABLE = (MlflowException, SQLAlchemyError, OSError)


def quiet() -> None:
    """Silence what MLflow and its migrations say of themselves."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def connect(uri: str) -> MlflowClient:
    """A client of the tracking server; a missing database is created."""
    mlflow.set_tracking_uri(uri)
    if not uri.startswith("sqlite:///"):
        return MlflowClient(uri)
    prepare_database(Path(uri.removeprefix("sqlite:///")).absolute())
    return MlflowClient(uri)


class Replay:
    """One record on its way into MLflow; `advance` sends what is new.

    Args:
        folder: of the record.
        uri: of the tracking server.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.uri = uri
        self.run = read_run(folder)
        self.done = False
        self._run_id = ""
        self._sent_bytes = 0

    def advance(self) -> None:
        """Send what MLflow lacks; set `done` once the record has ended and all of it is sent.

        Raises:
            UNREACHABLE: if the server does not accept it; call again later.
        """
        lock = Path(tempfile.gettempdir()) / f"segbench-{self.run.id}.lock"
        with FileLock(lock):  # two processes may replay one record
            client = connect(self.uri)
            ended = self.folder / "end.json"
            end = json.loads(ended.read_text()) if ended.exists() else None
            if not self._run_id:
                self._run_id = self._open(client, end)
            if self.done:
                return
            self._send_metrics(client)
            if end is not None:
                self._send_artifacts(client)
                if end["status"] == "FINISHED":
                    self._send_model(client)
                self._link_children(client, end)
                self._send_views(client)
                tags = {**end["tags"], self._replayed_tag(): str(end["time_ms"])}
                client.log_batch(self._run_id, tags=[RunTag(*tag) for tag in tags.items()])
                self._close(client, end)
                self.done = True

    def _replayed_tag(self) -> str:
        return f"segbench.replayed.{self.run.stage}"

    def _open(self, client: MlflowClient, end: dict[str, Any] | None) -> str:
        """Find or create the run, and send its params and tags."""
        run = self.run
        experiment_id = self._experiment(client)
        found = _find(client, [experiment_id], run.id)
        if found is not None:
            run_id = found.info.run_id
            if end is None and run.stage == "train":
                client.update_run(run_id, "RUNNING")  # an interrupted run that continues
            elif end and found.data.tags.get(self._replayed_tag()) == str(end["time_ms"]):
                self.done = True
                return str(run_id)
        else:
            created = client.create_run(
                experiment_id,
                start_time=run.started_ms,
                run_name=run.name,
                tags={RUN_TAG: run.id},
            )
            run_id = created.info.run_id
        params = [Param(key, value) for key, value in run.params.items()]
        for start in range(0, len(params), 100):
            client.log_batch(run_id, params=params[start : start + 100])
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in run.tags.items()])
        inputs = [
            MlflowDatasetInput(
                Dataset(
                    item.name,
                    item.digest,
                    "local",
                    json.dumps({"path": item.source}),
                    profile=json.dumps(item.profile),
                ),
                [InputTag("mlflow.data.context", {"train": "training"}.get(run.stage, "testing"))],
            )
            for item in run.inputs
        ]
        if inputs:
            client.log_inputs(run_id, inputs)
        return str(run_id)

    def _experiment(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self.run.experiment)
        if found is not None:
            if found.lifecycle_stage == LifecycleStage.DELETED:
                client.restore_experiment(found.experiment_id)
                print(
                    f"warning: MLflow's experiment {found.name} had been deleted, and is restored "
                    "with its runs, since this one goes there",
                    file=sys.stderr,
                )
            return str(found.experiment_id)
        place = None  # a server decides where artifacts go
        if self.uri.startswith("sqlite:///"):
            place = (
                Path(self.uri.removeprefix("sqlite:///")).resolve().parent / ARTIFACTS
            ).as_uri()
        try:
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(self.run.experiment, place, kind))
        except MlflowException:
            found = client.get_experiment_by_name(self.run.experiment)
            if found is None:
                raise
            return str(found.experiment_id)  # another process created it first

    def _send_metrics(self, client: MlflowClient) -> None:
        with open(self.folder / "metrics.jsonl", "rb") as file:
            file.seek(self._sent_bytes)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]  # the last line may be incomplete
        points = []
        for line in new.splitlines():
            step = json.loads(line)
            for key, value in step["values"].items():
                points.append(Metric(key, value, step["time_ms"], step["step"]))
        for start in range(0, len(points), 500):
            client.log_batch(self._run_id, metrics=points[start : start + 500])
        self._sent_bytes += len(new)

    def _send_artifacts(self, client: MlflowClient) -> None:
        root = self.folder / "artifacts"
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            name = path.relative_to(root)
            if name.parts[0] == "images":
                self._send_image(client, path)
            else:
                client.log_artifact(self._run_id, str(path), name.parent.as_posix())

    def _send_image(self, client: MlflowClient, path: Path) -> None:
        """Log a picture under a name that the UI's image grid recognises.

        `log_image` uses a random name and a new time stamp, so a replay would log it twice.
        """
        fixed = uuid.uuid5(uuid.UUID(self.run.id), path.stem)
        stem = f"{path.stem}+step+0+timestamp+{self.run.started_ms}+{fixed}"
        with tempfile.TemporaryDirectory() as temporary:
            full = Path(temporary) / f"{stem}.png"
            full.write_bytes(path.read_bytes())
            small = Path(temporary) / f"{stem}+compressed.webp"
            with Image.open(path) as picture:
                picture.thumbnail((256, 256))
                picture.save(small)
            for file in (full, small):
                client.log_artifact(self._run_id, str(file), "images")
        client.set_tag(self._run_id, "mlflow.loggedImages", "True")

    def _send_model(self, client: MlflowClient) -> None:
        model = self.run.model
        if model is None:
            return
        sent = client.get_run(self._run_id).data.tags.get("segbench.model")
        if sent == str(self.run.started_ms):
            return
        # Otherwise the model would go to the experiment "Default" instead of its run's.
        mlflow.set_experiment(experiment_id=self._experiment(client))
        log_model(model, (self.folder / model.path).resolve(), self._run_id, self.run.name)
        client.set_tag(self._run_id, "segbench.model", str(self.run.started_ms))

    def _link_children(self, client: MlflowClient, end: dict[str, Any]) -> None:
        """Make this run the parent of the runs it compares, and say of each what it says."""
        experiments = [self._experiment(client)]
        for child in self.run.children:
            found = _find(client, experiments, child)
            if found is None:
                continue
            tags = {"mlflow.parentRunId": self._run_id}
            if self.run.comparison:
                tags[f"{COMPARISON_TAG}{self.run.comparison}"] = self.run.id
            told = self.run.child_metrics.get(child, {})
            client.log_batch(
                found.info.run_id,
                metrics=[Metric(key, value, end["time_ms"], 0) for key, value in told.items()],
                tags=[RunTag(*tag) for tag in tags.items()],
            )

    def _send_views(self, client: MlflowClient) -> None:
        """Write the comparison's views, unless there are those of a later one of its name."""
        experiment = client.get_experiment(self._experiment(client))
        for key, value in self.run.views.items():
            if made_ms(experiment.tags.get(f"{TAG}{key}", "")) <= made_ms(value):
                client.set_experiment_tag(experiment.experiment_id, f"{TAG}{key}", value)

    def _close(self, client: MlflowClient, end: dict[str, Any]) -> None:
        # An evaluation adds to a run that training has already ended, unless it is replayed first.
        running = client.get_run(self._run_id).info.status == "RUNNING"
        if running or not self.run.stage.startswith("evaluate"):
            client.set_terminated(self._run_id, end["status"], end["time_ms"])


def _find(client: MlflowClient, experiments: list[str], id: str) -> Any:
    found = client.search_runs(experiments, f"tags.`{RUN_TAG}` = '{id}'", max_results=1)
    return found[0] if found else None


def replay(folders: list[Path], uri: str) -> list[Path]:
    """Replay records, trainings first, so that comparisons find their runs.

    Returns:
        The records that have not ended; their content so far is sent.

    Raises:
        UNREACHABLE: if the server does not accept them.
    """
    order = {"train": 0, "evaluate": 1, "compare": 2}
    for folder in sorted(folders, key=lambda one: order[read_run(one).stage.partition(".")[0]]):
        Replay(folder, uri).advance()
    return [folder for folder in folders if not (folder / "end.json").exists()]


def follow(folder: Path, uri: str, stage: int) -> bool:
    """Replay a growing record until it has ended; whether MLflow has all of it.

    If MLflow does not take it, that is said once.

    Args:
        folder: of the record.
        uri: of the tracking server; the wait between attempts grows while it does not answer.
        stage: process id of the parent, which writes the record.
    """
    current = Replay(folder, uri)
    pause = POLL_S
    failed = False
    while not current.done:
        ended = (folder / "end.json").exists()
        try:
            current.advance()
            pause = POLL_S
        except UNREACHABLE as problem:
            if not failed and os.getppid() == stage:
                print(
                    f"warning: MLflow at {without_secrets(uri)} does not take the run: "
                    f"{reason_of(problem)}; it is whole in {folder}, and 'segbench sync' brings "
                    "what MLflow misses",
                    file=sys.stderr,
                )
                signal.signal(signal.SIGTERM, lambda *_: os._exit(TOLD))
            failed = True
            pause = min(2 * pause, LONGEST_PAUSE_S)
            if ended:
                return False
        if os.getppid() != stage:
            return False  # the stage was killed; the record is final
        if not current.done:
            _sleep_until_ended(folder, pause)
    return True


def _sleep_until_ended(folder: Path, seconds: float) -> None:
    """Sleep, but wake up when the record ends, since the stage then waits."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not (folder / "end.json").exists():
        time.sleep(0.1)
