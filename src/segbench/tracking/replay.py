"""Replays records into MLflow. Nothing outside this package imports that.

Replaying is idempotent: a run is identified by the id in its record, a metric point by its time
stamp or, where a stage scores, by its value, an artifact by its name, a model by its weights. So
the same function works while a stage runs (a process follows the growing record) and afterwards
(anyone with a record can replay it into their own MLflow).
"""

import json
import os
import signal
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from segbench.tracking.client import UNREACHABLE, connect

# isort: split
from mlflow.entities import Dataset, InputTag, LifecycleStage, LoggedModel, Metric, Param, RunTag
from mlflow.entities import DatasetInput as MlflowDatasetInput
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image

from segbench.errors import without_secrets
from segbench.tracking.address import ARTIFACTS
from segbench.tracking.comparisons import (
    ENDED_TAG,
    NAME_TAG,
    find_run,
    find_runs,
    link_children,
    send_views,
    supersede,
)
from segbench.tracking.follower import TOLD
from segbench.tracking.models import find_model, model_key, send_model
from segbench.tracking.processes import (
    BEAT_S,
    PROCESS_TAG,
    RUN_TAG,
    Writer,
    close_abandoned,
    close_killed,
    lock_of,
)
from segbench.tracking.reasons import reason_of
from segbench.tracking.records import CARD_TAG, DatasetInput, now_ms, read_run
from segbench.tracking.registry import VERSION_TAG, link_card, register

CONTEXTS = {"train": "training", "val": "validation"}
"""What MLflow calls the use of images, by their role; of others it is testing."""
POLL_S = 1.0
LONGEST_PAUSE_S = 30.0


class Replay:
    """One record on its way into MLflow; `advance` sends what is new.

    Args:
        folder: of the record.
        uri: of the tracking server.
        stage: process id of the stage that writes it; 0 if none does.
        force: a champion gets its alias, whatever speaks against that.
    """

    def __init__(self, folder: Path, uri: str, stage: int = 0, force: bool = False) -> None:
        self.folder = folder
        self.uri = uri
        self.run = read_run(folder)
        self.done = False
        self._is_open = self._is_sent = False
        self._stage, self._force = stage, force
        self._run_id = ""
        self._sent_bytes = 0
        self._beat = 0.0
        self._writer: Writer | None = None
        self._started_ms = self.run.started_ms

    def advance(self) -> None:
        """Send what MLflow lacks; set `done` once the record has ended and all of it is sent.

        Raises:
            UNREACHABLE: if the server does not accept it; call again later.
        """
        with lock_of(self.run.id):  # two processes may replay one record
            client = connect(self.uri)
            ended = self.folder / "end.json"
            end = json.loads(ended.read_text()) if ended.exists() else None
            if not self._is_open:
                self._open(client, end)
                self._is_open = True
                if self._stage:
                    close_abandoned(client, [self._experiment(client)], own=self._run_id)
            if self.done:
                self._register(client, end)
                return
            if end is None:
                self._show_life(client)
            if end is None and self._scores:
                return  # which belong to the model that comes last
            self._send_metrics(client, self._send_model(client, end))
            if end is not None:
                self._send_artifacts(client)
                if self.run.children:
                    self._compare(client, end)
                self._close(client, end)
                tags = {**end["tags"], self._replayed_tag(): str(end["time_ms"])}
                client.log_batch(self._run_id, tags=[RunTag(*tag) for tag in tags.items()])
                self._register(client, end)
                if CARD_TAG in end["tags"]:
                    link_card(client, self._run_id)
                self.done = True

    def abandon(self) -> None:
        """Close the run of a stage that was killed, unless another process goes on with it.

        Raises:
            UNREACHABLE: if the server does not accept it.
        """
        with lock_of(self.run.id):
            if self._writer is None:
                return
            client = connect(self.uri)
            run = client.get_run(self._run_id)
            writer = Writer.read(run.data.tags.get(PROCESS_TAG, ""))
            if run.info.status == "RUNNING" and self._writer.is_same(writer):
                close_killed(client, run)

    @property
    def _scores(self) -> bool:
        return self.run.stage.startswith("evaluate")

    def _replayed_tag(self) -> str:
        return f"segbench.replayed.{self.run.stage}"

    def _open(self, client: MlflowClient, end: dict[str, Any] | None) -> None:
        """Find or create the run, and send its params and tags."""
        run = self.run
        experiment_id = self._experiment(client)
        found = find_run(client, experiment_id, run.id)
        owns = True
        if found is not None:
            self._run_id, self._started_ms = str(found.info.run_id), found.info.start_time
            if end and int(found.data.tags.get(self._replayed_tag(), 0)) >= end["time_ms"]:
                self.done = self._is_sent = True  # it has this one, or a later one of the same run
                return
            # A training that goes on; what only scores it, or says the same again, leaves it as is.
            owns = run.stage == "train" or found.info.status != "FINISHED"
            owns = owns and not self._scores
        else:
            tags = {RUN_TAG: run.id, **({NAME_TAG: run.comparison} if run.comparison else {})}
            created = client.create_run(
                experiment_id, start_time=run.started_ms, run_name=run.name, tags=tags
            )
            self._run_id = str(created.info.run_id)
        if end is None and self._stage and owns:
            self._writer = Writer.of(self._stage)
            self._show_life(client)
        params = [Param(key, value) for key, value in run.params.items()]
        for start in range(0, len(params), 100):
            client.log_batch(self._run_id, params=params[start : start + 100])
        client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in run.tags.items()])
        if run.inputs:
            client.log_inputs(self._run_id, [_as_input(item, run.stage) for item in run.inputs])

    def _show_life(self, client: MlflowClient) -> None:
        """Say now and then that the stage lives, also if the run was closed meanwhile."""
        if self._writer is None or time.monotonic() - self._beat < BEAT_S:
            return
        self._writer = self._writer._replace(seen_ms=now_ms())
        client.set_tag(self._run_id, PROCESS_TAG, self._writer.value)
        client.update_run(self._run_id, "RUNNING")
        self._beat = time.monotonic()

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

    def _send_metrics(self, client: MlflowClient, model: LoggedModel | None) -> None:
        with open(self.folder / "metrics.jsonl", "rb") as file:
            file.seek(self._sent_bytes)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]  # the last line may be incomplete
        # Scores that are made anew have another time, which would make each a second point.
        known: dict[str, float] = {}
        if self._scores and model:
            known = {one.key: one.value for one in model.metrics or ()}
        elif self.run.stage != "train":
            known = client.get_run(self._run_id).data.metrics
        points = []
        for line in new.splitlines():
            step = json.loads(line)
            for key, value in step["values"].items():
                if known.get(key) != value:
                    place = self._measured_of(key, model)
                    points.append(Metric(key, value, step["time_ms"], step["step"], **place))
        for start in range(0, len(points), 500):
            client.log_batch(self._run_id, metrics=points[start : start + 500])
        self._sent_bytes += len(new)

    def _measured_of(self, key: str, model: LoggedModel | None) -> dict[str, str]:
        """What MLflow is told of a score: of which model it is, and of which images."""
        if not (self._scores and model):
            return {}
        images = next(
            (item for item in self.run.inputs if item.role and key.startswith(f"{item.role}/")),
            None,
        )
        told = {"dataset_name": images.name, "dataset_digest": images.digest} if images else {}
        return {"model_id": model.model_id, **told}

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
        stem = f"{path.stem}+step+0+timestamp+{self._started_ms}+{fixed}"
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

    def _send_model(self, client: MlflowClient, end: dict[str, Any] | None) -> LoggedModel | None:
        """The model of the run, which is sent if the record has it."""
        run, experiment = self.run, self._experiment(client)
        if run.model and end and end["status"] == "FINISHED":
            key = model_key(run, end["tags"])
            return send_model(client, experiment, self._run_id, run, self.folder, key)
        return find_model(client, experiment, self._run_id) if self._scores else None

    def _compare(self, client: MlflowClient, end: dict[str, Any]) -> None:
        """Tie a comparison to the runs that it compares, and to those that it supersedes."""
        run, experiment = self.run, self._experiment(client)
        children = find_runs(client, experiment, run.children)
        link_children(client, experiment, run, self._run_id, end["time_ms"], children)
        send_views(client, experiment, run.views)
        if run.comparison:
            client.set_tag(self._run_id, ENDED_TAG, str(end["time_ms"]))
            supersede(client, experiment, run.comparison)

    def _register(self, client: MlflowClient, end: dict[str, Any] | None) -> None:
        """Register the champion of a comparison, unless it is known or its report was not made."""
        if self.run.champion is None or end is None or "champion" not in end["tags"]:
            return
        known = VERSION_TAG in client.get_run(self._run_id).data.tags and self._is_sent
        if not known or self._force:
            experiment = self._experiment(client)
            register(client, experiment, self.run, self._run_id, end["time_ms"], self._force)

    def _close(self, client: MlflowClient, end: dict[str, Any]) -> None:
        run = client.get_run(self._run_id)
        # What only scores a run, or says the same of a comparison anew, leaves it as it ended.
        if self.run.stage == "train" or run.info.status != "FINISHED":
            client.set_terminated(self._run_id, end["status"], end["time_ms"])
        if PROCESS_TAG in run.data.tags:
            client.delete_tag(self._run_id, PROCESS_TAG)


def _as_input(item: DatasetInput, stage: str) -> MlflowDatasetInput:
    context = CONTEXTS.get(item.role or stage, "testing")
    return MlflowDatasetInput(
        Dataset(
            item.name,
            item.digest,
            "local",
            json.dumps({"path": item.source}),
            profile=json.dumps(item.profile),
        ),
        [InputTag("mlflow.data.context", context)],
    )


def replay(folders: list[Path], uri: str, force: bool = False) -> list[Path]:
    """Replay records, trainings first, so that comparisons find their runs; and close the runs of
    stages that were killed.

    Args:
        folders: of the records.
        uri: of the tracking server.
        force: champions get their alias, whatever speaks against that.

    Returns:
        The records that have not ended; their content so far is sent.

    Raises:
        UNREACHABLE: if the server does not accept them.
    """
    for folder in sorted(folders, key=lambda one: _order(read_run(one).stage)):
        Replay(folder, uri, force=force).advance()
    client = connect(uri)
    close_abandoned(client, [one.experiment_id for one in client.search_experiments()])
    return [folder for folder in folders if not (folder / "end.json").exists()]


def _order(stage: str) -> tuple[int, bool]:
    name, _, external = stage.partition(".")
    return {"train": 0, "evaluate": 1, "compare": 2, "deliver": 3}[name], bool(external)


def follow(folder: Path, uri: str, stage: int) -> bool:
    """Replay a growing record until it has ended; whether MLflow has all of it.

    If MLflow does not take it, that is said once.

    Args:
        folder: of the record.
        uri: of the tracking server; the wait between attempts grows while it does not answer.
        stage: process id of the parent, which writes the record.
    """
    current = Replay(folder, uri, stage)
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
            if not ended:
                with suppress(*UNREACHABLE):
                    current.abandon()
            return False  # the stage was killed; the record is final
        if not current.done:
            _sleep_until_ended(folder, pause)
    return True


def _sleep_until_ended(folder: Path, seconds: float) -> None:
    """Sleep, but wake up when the record ends, since the stage then waits."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not (folder / "end.json").exists():
        time.sleep(0.1)
