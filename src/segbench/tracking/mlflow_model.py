"""Logs an evaluated network as an MLflow model: served as images to masks, loaded as a program."""

import base64
import io
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import yaml
from mlflow.entities import LoggedModel
from mlflow.models import Model, ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, ColSpec
from PIL import Image

from segbench.tracking.records import ModelFile

NETWORK, SCRIPT, CODE, DATA = "model.onnx", "model.py", "code", "data.json"
"""Of a served model; `DATA` says how images are read and masks are stored."""
REQUIRED = ("mlflow", "numpy", "onnxruntime", "opencv-python-headless", "pillow")
"""What a served model needs."""
ENVIRONMENT = {"python_env": "python_env.yaml", "conda_env": "conda.yaml"}
"""Files of what a model needs: MLflow makes no environment, of either kind, without both."""
SERVED = {"images": 32, "threads": 0}
"""Most images in a request, and threads that an image is predicted on (0: all cores)."""


def log_model(model: ModelFile, program: Path, logged: LoggedModel, step: int) -> None:
    """Log a run's network.

    It has the flavour `pytorch`, the exported program, for whoever goes on in torch. Where the same
    network lies beside it as ONNX, MLflow serves that, see `serving`; in records of earlier
    versions it does not, and the program itself is served, from bytes to logits.

    Args:
        model: its signature.
        program: path of the exported program.
        logged: the model of the run, which gets its files.
        step: of the run's metrics that are the model's too: the epoch that its weights are of.
    """
    network = program.with_name(NETWORK)
    Model.log(
        artifact_path=None,
        name=logged.name,
        model_id=logged.model_id,
        step=step,
        flavor=SimpleNamespace(save_model=save_served if network.exists() else _save_exported),
        run_id=logged.source_run_id,
        signature=served_signature() if network.exists() else _signature(model),
        program=program,
        network=network,
        validate_serving_input=False,  # it would be loaded here
    )


def _signature(model: ModelFile) -> ModelSignature:
    # No names in the signature: with them MLflow passes a dict, which an exported program rejects.
    images = TensorSpec(np.dtype(np.uint8), (-1, model.channels, -1, -1))
    logits = TensorSpec(np.dtype(np.float32), (-1, model.num_outputs, -1, -1))
    return ModelSignature(Schema([images]), Schema([logits]))


def served_signature() -> ModelSignature:
    """A list of images of any form, a list of answers, and in which form these are."""
    images, answers = Schema([ColSpec(AnyType())]), Schema([ColSpec(AnyType())])
    output = ParamSpec("output", DataType.string, "png")
    signature = ModelSignature(images, answers, ParamSchema([output]))
    # The model gets the list in a request as it is, and checks it.
    signature._is_signature_from_type_hint = True
    return signature


def _save_exported(
    path: str, mlflow_model: Model, signature: ModelSignature, program: Path, **_: Any
) -> None:
    """Write an MLflow model around an exported program."""
    root = Path(path)
    _add_program(root, mlflow_model, program)
    _write_environment(root, ("mlflow", "torch", "numpy", "pandas"))
    mlflow.pyfunc.add_to_model(
        mlflow_model,
        loader_module="mlflow.pytorch",
        data="data",
        **ENVIRONMENT,
        model_config={"device": None},
    )
    _finish(root, mlflow_model, signature)


def save_served(
    path: str,
    mlflow_model: Model,
    signature: ModelSignature,
    program: Path,
    network: Path,
    **_: Any,
) -> None:
    """Write an MLflow model that is served from code, without pickle, torch and segbench.

    `mlflow.pyfunc.save_model` would load it first; this writes the layout that it writes.
    """
    from segbench.serving.bundle import data_format, write_code

    root = Path(path)
    _add_program(root, mlflow_model, program)
    shutil.copyfile(network, root / NETWORK)
    (root / DATA).write_text(json.dumps(data_format(network), indent=2) + "\n")
    write_code(root / SCRIPT, root / CODE)
    _write_environment(root, REQUIRED)
    mlflow.pyfunc.add_to_model(
        mlflow_model,
        loader_module="mlflow.pyfunc.loaders.code_model",
        code=CODE,
        **ENVIRONMENT,
        model_config=SERVED,
        model_code_path=SCRIPT,
        artifacts={
            "network": {"path": NETWORK, "uri": NETWORK},
            "data": {"path": DATA, "uri": DATA},
        },
    )
    _write_example(root, mlflow_model)
    _finish(root, mlflow_model, signature)


def _add_program(root: Path, mlflow_model: Model, program: Path) -> None:
    """Add the flavour `pytorch`.

    `mlflow.pytorch.save_model` would export again and fix height and width to those of its example;
    this writes the layout that `mlflow.pytorch.load_model` reads.
    """
    (root / "data").mkdir(parents=True)
    shutil.copyfile(program, root / "data" / "model.pt2")
    mlflow_model.add_flavor(
        "pytorch", model_data="data", pytorch_version=version("torch"), code=None
    )


def _write_environment(root: Path, packages: tuple[str, ...]) -> None:
    needs = [f"{name}=={version(name)}" for name in packages]
    (root / "requirements.txt").write_text("\n".join(needs) + "\n")
    python = ".".join(str(part) for part in sys.version_info[:3])
    environment = {"python": python, "dependencies": ["-r requirements.txt"]}
    (root / ENVIRONMENT["python_env"]).write_text(yaml.safe_dump(environment))
    conda = [f"python={python}", "pip", {"pip": needs}]
    described = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": conda}
    (root / ENVIRONMENT["conda_env"]).write_text(yaml.safe_dump(described))


def _write_example(root: Path, mlflow_model: Model) -> None:
    """Write a request that MLflow's pages show: a grey image of 64x48."""
    file = io.BytesIO()
    Image.new("L", (64, 48), 128).save(file, "PNG")
    images = [base64.b64encode(file.getvalue()).decode()]
    (root / "input_example.json").write_text(json.dumps(images))
    (root / "serving_input_example.json").write_text(json.dumps({"inputs": images}, indent=2))
    mlflow_model.saved_input_example_info = {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        "type": "json_object",
    }


def _finish(root: Path, mlflow_model: Model, signature: ModelSignature) -> None:
    mlflow_model.signature = signature
    mlflow_model.save(str(root / "MLmodel"))
