"""The models of runs in MLflow: each with the scores that were measured of it, and on what."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.tracking import MlflowClient

from segbench.tracking.mlflow_model import log_model
from segbench.tracking.processes import RUN_TAG
from segbench.tracking.records import Run

KEY_TAG = "segbench.model"
"""Of a model: the hash of what it is."""
WEIGHTS_TAG = "segbench.weights_sha256"


def model_key(run: Run, tags: Mapping[str, str]) -> str:
    """Hash of a run's model: of its weights, and the rule by which it makes masks.

    Args:
        run: that has it.
        tags: that its record has at the end.
    """
    chosen = {key: value for key, value in tags.items() if key.startswith("chosen.")}
    what = [run.id, tags.get(WEIGHTS_TAG, run.started_ms), chosen]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def find_model(client: MlflowClient, experiment: str, run_id: str) -> LoggedModel | None:
    """The latest model of a run that has its files; None if there is none."""
    whole = [one for one in _models_of(client, experiment, run_id) if one.status == "READY"]
    return max(whole, key=lambda one: one.creation_timestamp, default=None)


def _models_of(client: MlflowClient, experiment: str, run_id: str) -> list[LoggedModel]:
    return list(client.search_logged_models([experiment], f"source_run_id = '{run_id}'"))


def send_model(
    client: MlflowClient, experiment: str, run_id: str, run: Run, folder: Path, key: str
) -> LoggedModel:
    """The model of a run, which is logged unless MLflow has it.

    Args:
        client: of the tracking server.
        experiment: MLflow's id.
        run_id: MLflow's id of the run.
        run: whose record has the model.
        folder: of that record.
        key: see `model_key`.
    """
    assert run.model is not None
    known = [one for one in _models_of(client, experiment, run_id) if one.tags.get(KEY_TAG) == key]
    logged = known[0] if known else _create(client, experiment, run_id, run, key)
    if logged.status != LoggedModelStatus.READY:  # else all of it has arrived
        epoch = client.get_run(run_id).data.tags.get("selected_epoch", "0")
        # Not resolved: what lies beside the program is asked for too, and not where DVC's cache is.
        program = Path(os.path.normpath(folder.absolute() / run.model.path))
        log_model(run.model, program, logged, int(epoch))
        logged = client.get_logged_model(logged.model_id)
    return logged


def _create(client: MlflowClient, experiment: str, run_id: str, run: Run, key: str) -> LoggedModel:
    params: dict[str, Any] = client.get_run(run_id).data.params
    return client.create_logged_model(
        experiment,
        name=run.name,
        source_run_id=run_id,
        tags={KEY_TAG: key, RUN_TAG: run.id},
        params=params,
        model_type="segmentation",
    )
