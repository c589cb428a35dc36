"""No name, password or token of an address is printed or kept; docs/team.md says where they go."""

from pathlib import Path
from typing import Any

import pytest

from segbench.cluster.workers import _tracking
from segbench.commands import ui
from segbench.errors import InputError, exit_statuses, without_secrets
from segbench.tracking.follower import FOLLOW
from support.params import problems

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:s3cr3t@mlflow.lab:5000/", "http://***@mlflow.lab:5000/"),
        ("http://s3cr3t@mlflow.lab", "http://***@mlflow.lab"),
        ("postgresql://me:s3cr3t@db/runs is gone", "postgresql://***@db/runs is gone"),
        # Not encoded, as an address should be.
        ("http://me:s3cr3t/@'?s3cr3t@host/x", "http://***@host/x"),
        ("me:s3cr3t@mlflow.lab:5000", "***@mlflow.lab:5000"),
        ("url='me:s3cr3t@host'", "url='***@host'"),
        ("s3://bucket/key?X-Amz-Signature=s3cr3t is denied", "s3://bucket/key?*** is denied"),
        ("for url: /bucket/key?sig=s3cr3t (Caused by", "for url: /bucket/key?*** (Caused by"),
    ],
)
def test_what_is_shown_in_place_of_a_secret(text: str, shown: str) -> None:
    assert SECRET in text
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "runs are at http://mlflow.lab:5000",
        "models:/polyps@champion",
        "train@resnet18-0-1: no such stage (did you mean evaluate?); see --help",
        "s3://bucket/folder, sqlite:////home/me/mlflow.db",
        "pattern '^(?P<group>a)_' at line 3: write (?=b)",
        "mail me@example.org",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_every_error_line_is_without_secrets() -> None:
    with pytest.raises(SystemExit) as end, exit_statuses("train: "):
        raise InputError(f"https://me:{SECRET}@host/x?token={SECRET} does not answer")
    assert end.value.code == "error: train: https://***@host/x?*** does not answer"


@pytest.mark.parametrize("url", [f"https://{SECRET}@host/folder", f"http://me:{SECRET}@host"])
def test_params_take_no_token_either(tree: dict[str, Any], tmp_path: Path, url: str) -> None:
    tree["checkpoints"]["url"] = url
    line = problems(tree, tmp_path)
    assert "checkpoints.url: holds a password or a signature" in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (f"http://me:{SECRET}@lab:5000", "runs are at http://***@lab:5000\n"),
        (f"me:{SECRET}@lab:5000", "error: MLFLOW_TRACKING_URI: MLflow cannot show ***@lab:5000; "),
    ],
)
def test_ui(
    uri: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(ui, "enter_workspace", lambda: None)
    code = ""
    try:
        with exit_statuses():
            ui.ui.main([], standalone_mode=False)
    except SystemExit as end:
        code = str(end.code)
    shown = capsys.readouterr().out + code
    assert shown.startswith(said)
    assert SECRET not in shown


def test_a_secret_does_not_reach_workers_by_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask would write it into command lines and logs; the driver replays instead."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@lab:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    assert _tracking(tmp_path) == {FOLLOW: "no"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    assert _tracking(tmp_path) == {"MLFLOW_TRACKING_URI": "http://lab:5000"}
