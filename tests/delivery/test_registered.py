"""A model of MLflow's registry: found by its address, or one line that says why not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.delivery.finding import Layout, find_model
from segbench.errors import InputError
from segbench.tracking.client import connect
from segbench.tracking.versions import Version, fetch_version
from support.exports import described, write_plain_network

pytestmark = pytest.mark.filterwarnings("ignore")
NOWHERE = Layout(**dict.fromkeys(Layout.__dataclass_fields__, Path("nowhere")))


def refused(address: str, cache: Path) -> str:
    with pytest.raises(InputError) as caught:
        find_model(address, NOWHERE, cache)
    assert "\n" not in str(caught.value)
    assert not cache.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["models:/", "models:/cvc", "models:/cvc@", "models:/cvc/", "models:/cvc/latest", "models:/@x"],
)
def test_an_address_of_no_version(address: str, tmp_path: Path) -> None:
    said = refused(address, tmp_path / "cache")
    assert said.startswith(f"{address}: names no version of a model; write models:/NAME@ALIAS or ")


@pytest.mark.parametrize("content", [None, b"", b"no database"])
def test_where_there_is_no_database_none_is_made(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if content is not None:
        Path("mlflow.db").write_bytes(content)
    before = [*Path().iterdir()]
    said = refused("models:/polyps@champion", tmp_path / "cache")
    assert "there is no MLflow database sqlite:///" in said
    assert "set MLFLOW_TRACKING_URI to the server" in said
    assert [*Path().iterdir()] == before


def test_a_server_that_is_down_is_told_soon(tmp_path: Path) -> None:
    """By the command, as nothing but it settles how often MLflow tries."""
    address = "http://someone:secret@127.0.0.1:9"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")
    }
    arguments = ["--model", "models:/polyps@champion", "--images", ".", "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "segbench", "predict", *arguments],
        cwd=tmp_path,
        env={**environment, "MLFLOW_TRACKING_URI": address},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,  # by its own settings MLflow tries for longer
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: models:/polyps@champion: MLflow at http://***@127.0.0.1:9 does not answer ("
    )
    assert done.stderr.endswith("; start it, or set MLFLOW_TRACKING_URI to another\n")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_a_registered_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    about = described()
    (tmp_path / "model").mkdir()
    write_plain_network(about, tmp_path / "model/model.onnx")
    client = connect(uri)
    client.create_registered_model("polyps")
    client.create_model_version("polyps", str(tmp_path / "model"))
    client.set_registered_model_alias("polyps", "champion", "1")
    for address in ("models:/polyps@champion", "models:/polyps/1"):
        source = find_model(address, NOWHERE, tmp_path / "fetched")
        assert source.sha256 == about.weights_sha256
        assert source.files["onnx"].is_relative_to(tmp_path / "fetched/polyps-1")

    for address in ("models:/polyps@best", "models:/polyps/7", "models:/other@champion"):
        said = refused(address, tmp_path / "cache")
        assert said.startswith(f"{address}: MLflow at {uri} has no such model (")
        assert said.endswith("; name one that it lists, or set MLFLOW_TRACKING_URI to another")

    gone = Version("polyps", "7", "", {})
    with pytest.raises(InputError, match=r"/7: MLflow at .* does not give its files") as caught:
        fetch_version(gone, uri, tmp_path / "cache")
    assert "\n" not in str(caught.value)
