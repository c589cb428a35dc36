"""A team's server as docs/team.md sets it up: PostgreSQL, an S3 store, users with rights."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import cv2
import numpy as np
import onnxruntime
import psutil
import pytest

from segbench.exports.onnx import export_onnx
from segbench.exports.program import export_network
from segbench.tracking.client import connect
from support.contest import Contest
from support.exports import SMALL, described, network_of, pixels
from support.mlflow_server import everything
from support.params import ROOT
from support.team_server import SECRET, block_of, client_of, team_server
from support.writers import WRITERS, check_run, start_writer

pytestmark = [pytest.mark.slow, pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]
ADA = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": f"may-write-{SECRET}"}
BOB = {"MLFLOW_TRACKING_USERNAME": "bob", "MLFLOW_TRACKING_PASSWORD": f"may-read-{SECRET}"}
Server = tuple[str, dict[str, str], Path]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Address, the server's environment and its log; with the users of docs/team.md."""
    log = tmp_path_factory.mktemp("team") / "log"
    with team_server(log) as (uri, environment):
        asked = {
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": environment["MLFLOW_AUTH_ADMIN_PASSWORD"],
            "ADA_PASSWORD": ADA["MLFLOW_TRACKING_PASSWORD"],
            "BOB_PASSWORD": BOB["MLFLOW_TRACKING_PASSWORD"],
        }
        subprocess.run(
            [sys.executable, "-c", block_of("python", "import os\n\nfrom mlflow.server")],
            env=asked,
            check=True,
        )
        yield uri, environment, log


def command_lines() -> str:
    """Of all processes here but this one, which holds the secrets of the test."""
    found = psutil.process_iter(["pid", "cmdline"])
    return "\n".join(" ".join(one.info["cmdline"] or ()) for one in found if one.pid != os.getpid())


def segbench(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).touch()
    return run(folder, *words, **environment)


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segbench", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_eight_write_at_once_and_two_are_refused(
    team: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, environment, log = team
    host = uri.removeprefix("http://")
    by_address = {"MLFLOW_TRACKING_URI": f"http://ada:may-write-{SECRET}@{host}"}
    by_name = {"MLFLOW_TRACKING_URI": uri, **ADA}
    wrong = {"MLFLOW_TRACKING_URI": f"http://ada:wrong-{SECRET}@{host}"}
    reader = {"MLFLOW_TRACKING_URI": uri, **BOB}
    given = [*[by_name, by_address] * (WRITERS // 2), wrong, reader]
    writers = [start_writer(tmp_path, at, one) for at, one in enumerate(given)]
    time.sleep(5)
    seen = command_lines()
    said = [writer.communicate(timeout=400)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * len(writers)
    assert said[:WRITERS] == [""] * WRITERS
    begin = "does not take the run: %s; it is whole in record%d, and 'segbench sync' brings"
    first, second = said[WRITERS:]
    assert first.startswith(f"warning: MLflow at http://***@{host} ")
    assert (
        begin
        % (
            "it knows no such user with this password; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD",
            WRITERS,
        )
        in first
    )
    assert (
        begin % ("this user may not write there; ask whoever runs it for the right", WRITERS + 1)
        in second
    )
    assert (first.count("\n"), second.count("\n")) == (1, 1)

    for name, value in BOB.items():  # who may read everything
        monkeypatch.setenv(name, value)
    found = everything(uri)
    assert sorted(found) == [f"writer{at}" for at in range(WRITERS)]
    for at in range(WRITERS):
        check_run(at, found[f"writer{at}"])

    refused = segbench(tmp_path, "sync", str(tmp_path), **wrong)
    assert refused.returncode == 1
    assert "it knows no such user with this password" in refused.stderr
    for _ in range(2):  # the second time adds nothing
        synced = segbench(tmp_path, "sync", str(tmp_path), **by_address)
        assert synced.returncode == 0, synced.stderr
        assert f"{WRITERS + 2} records are in http://***@{host}" in synced.stdout
    found = everything(uri)
    assert sorted(found) == sorted(f"writer{at}" for at in range(WRITERS + 2))
    for at in range(WRITERS + 2):
        check_run(at, found[f"writer{at}"])

    store = client_of(environment, boto3)
    pages = store.get_paginator("list_objects_v2").paginate(Bucket="mlflow")  # type: ignore[attr-defined]
    kept = [one["Key"] for page in pages for one in page["Contents"]]
    assert len(kept) == len(set(kept)) == 12 * (WRITERS + 2)

    doctored = [segbench(tmp_path, "doctor", **one) for one in (by_address, wrong)]
    lines = [
        next(line for line in one.stdout.splitlines() if " mlflow " in line) for one in doctored
    ]
    assert f"http://***@{host} answers" in lines[0]
    assert f"http://***@{host} wants another name or password" in lines[1]
    told = [refused, synced, *doctored]
    texts = {
        "output": "".join([*said, *(one.stdout + one.stderr for one in told)]),
        "MLflow": repr(found),
        "command lines": seen,
        "the server's log": log.read_text(),
        "records": "".join(
            path.read_bytes().decode(errors="replace")
            for path in tmp_path.rglob("*")
            if path.is_file()
        ),
    }
    assert "mlflow server" in seen
    assert {name for name, text in texts.items() if SECRET in text} == set()


def test_who_may_read_predicts_with_the_champion(
    team: Server, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On another machine: without the workspace, by name and alias alone."""
    uri = team[0]
    contest = Contest(tmp_path / "workspace/data", "polyps")
    network, model = network_of(**SMALL), contest.folder / "good/evaluate/model"
    for alias in ("good", "bad"):
        contest.train(alias)
        export_network(network, 3, contest.folder / alias / "evaluate/model.pt2")
    export_onnx(network, described(), model.with_suffix(".onnx"))
    contest.compare()
    synced = segbench(tmp_path, "sync", str(contest.folder), MLFLOW_TRACKING_URI=uri, **ADA)
    assert synced.returncode == 0, synced.stderr
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    images, out = elsewhere / "images", elsewhere / "masks"
    images.mkdir()
    cv2.imwrite(str(images / "one.png"), pixels(64, 96, 3))
    name = "models:/polyps-comparison@champion"
    words = ("predict", "--model", name, "--images", str(images), "--out", str(out))
    predicted = run(elsewhere, *words, MLFLOW_TRACKING_URI=uri, **BOB)
    assert predicted.returncode == 0, predicted.stderr
    session = onnxruntime.InferenceSession(model.with_suffix(".onnx"))
    taken = cv2.imread(str(images / "one.png"))[..., ::-1].transpose(2, 0, 1)
    (mask,) = session.run(["mask"], {"images": np.ascontiguousarray(taken)[None]})
    found = cv2.imread(str(out / "masks/one.png"), cv2.IMREAD_UNCHANGED)
    assert 0 < np.count_nonzero(mask) < mask.size
    np.testing.assert_array_equal(found > 0, mask[0] > 0)
    nobody = run(elsewhere, *words, MLFLOW_TRACKING_URI=uri, MLFLOW_TRACKING_USERNAME="")
    assert nobody.returncode == 1
    assert nobody.stderr.count("\n") == 1
    assert f"{name}: MLflow at {uri} " in nobody.stderr


def test_a_name_that_is_not_allowed(team: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor by who knows a password."""
    from segbench.tracking.client import UNREACHABLE
    from segbench.tracking.reasons import reason_of

    for name, value in ADA.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UNREACHABLE) as refused:
        connect(team[0].replace("127.0.0.1", "localhost")).search_experiments()
    assert reason_of(refused.value) == (
        "it does not serve under this name; its --allowed-hosts has to list it"
    )
