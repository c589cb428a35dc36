"""Where runs go: the address of the tracking server, told without importing MLflow."""

import os
from pathlib import Path

DATABASE = "mlflow.db"
# MLflow's own name for its artifact folder.
ARTIFACTS = "mlruns"
HOST, PORT = "127.0.0.1", 5000
"""Where `segbench ui` shows them, unless it is told another port."""


def repository_root(folder: Path) -> Path:
    """Root of the repository that holds a folder; in a DVC experiment's copy, of the original."""
    folder = folder.resolve()
    for parent in (folder, *folder.parents):
        if parent.parts[-3:-1] == ("tmp", "exps") and parent.parts[-4] == ".dvc":
            return parent.parents[3]
    for parent in (folder, *folder.parents):
        if (parent / ".dvc").is_dir():
            return parent
    return folder


def tracking_uri(folder: Path) -> str:
    """`MLFLOW_TRACKING_URI` if set, else a SQLite file at the repository's root."""
    default = f"sqlite:///{repository_root(folder) / DATABASE}"
    return os.environ.get("MLFLOW_TRACKING_URI") or default
