"""Logs an exported program as an MLflow model."""

import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import yaml
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from segbench.tracking.records import ModelFile


def log_model(model: ModelFile, program: Path, run_id: str, name: str) -> None:
    """Log a run's exported program in the active experiment.

    Args:
        model: its signature.
        program: path of the exported program.
        run_id: MLflow's id of the run.
        name: of the model, by which a list of models is read.
    """
    Model.log(
        artifact_path=None,
        name=name,
        flavor=SimpleNamespace(save_model=_save_exported),
        run_id=run_id,
        signature=_signature(model),
        program=program,
    )


def _signature(model: ModelFile) -> ModelSignature:
    # No names in the signature: with them MLflow passes a dict, which an exported program rejects.
    images = TensorSpec(np.dtype(np.uint8), (-1, model.channels, -1, -1))
    logits = TensorSpec(np.dtype(np.float32), (-1, model.num_outputs, -1, -1))
    return ModelSignature(Schema([images]), Schema([logits]))


def _save_exported(
    path: str, mlflow_model: Model, signature: ModelSignature, program: Path, **_: Any
) -> None:
    """Write an MLflow model around an exported program.

    `mlflow.pytorch.save_model` would export again and fix height and width to those of its example;
    this writes the layout that `mlflow.pytorch.load_model` reads.
    """
    root = Path(path)
    (root / "data").mkdir(parents=True)
    (root / "data" / "model.pt2").write_bytes(program.read_bytes())
    needs = [f"{name}=={version(name)}" for name in ("mlflow", "torch", "numpy", "pandas")]
    (root / "requirements.txt").write_text("\n".join(needs) + "\n")
    python = ".".join(str(part) for part in sys.version_info[:3])
    environment = {"python": python, "dependencies": ["-r requirements.txt"]}
    (root / "python_env.yaml").write_text(yaml.safe_dump(environment))
    mlflow_model.signature = signature
    mlflow_model.add_flavor(
        "pytorch", model_data="data", pytorch_version=version("torch"), code=None
    )
    mlflow.pyfunc.add_to_model(
        mlflow_model,
        loader_module="mlflow.pytorch",
        data="data",
        python_env="python_env.yaml",
        model_config={"device": None},
    )
    mlflow_model.save(str(root / "MLmodel"))
