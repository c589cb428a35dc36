"""A real `mlflow models serve`, requests to it, and pictures to send."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Call = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]
"""Sends JSON, returns the status and the JSON that came back."""


def in_base64(pixels: np.ndarray | Image.Image, format: str = "PNG", **how: Any) -> str:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, format, **how)
    return base64.b64encode(file.getvalue()).decode()


def mask_of(answer: dict[str, Any]) -> np.ndarray:
    """Values of the PNG in an answer."""
    with Image.open(io.BytesIO(base64.b64decode(answer["png"]))) as image:
        return np.asarray(image)


def of_run_lengths(wanted: dict[str, Any]) -> np.ndarray:
    """The mask (H, W) that run lengths stand for."""
    counts = wanted["counts"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(wanted["size"], order="F")


@contextmanager
def served(
    model: str, bin: Path, folder: Path, uri: str = "", manager: str = "local"
) -> Iterator[Call]:
    """Serve a model by the MLflow of an environment.

    Args:
        model: its folder or URI.
        bin: folder of the environment's programs.
        folder: to serve in; Python finds no segbench there.
        uri: of the tracking server.
        manager: who makes the environment that it runs in; local: that is the one of `bin`. Others
            are made in `folder`/envs.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENV_ROOT": str(folder / "envs"),
        **({"MLFLOW_TRACKING_URI": uri} if uri else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(bin / "python"), "-m", "mlflow", "models", "serve", "--env-manager", manager]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "-m", model, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600 if manager == "local" else 3000):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
        else:
            raise AssertionError((folder / "log").read_text())
        yield lambda request: _call(f"{address}/invocations", request)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _call(address: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    data = json.dumps(request).encode()
    asked = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)
