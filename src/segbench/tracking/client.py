"""MLflow's client, with the settings that it takes from the environment.

Whatever imports MLflow imports this module before it: outside this package nothing but it and what
builds on it does.
"""

import logging
import os
from pathlib import Path

# Else MLflow would send telemetry, which it settles when it is imported, print two addresses for
# each run, and retry a dead server for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from segbench.tracking.database import prepare_database

SQLITE = "sqlite:///"
UNREACHABLE = (MlflowException, SQLAlchemyError, OSError)
"""Errors of a server that is down, failing or locked; those of requests are OSErrors."""


def quiet() -> None:
    """Silence what MLflow and its migrations say of themselves."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def connect(uri: str) -> MlflowClient:
    """A client of the tracking server; a missing database is created."""
    mlflow.set_tracking_uri(uri)
    if not uri.startswith(SQLITE):
        return MlflowClient(uri)
    prepare_database(Path(uri.removeprefix(SQLITE)).absolute())
    return MlflowClient(uri)
