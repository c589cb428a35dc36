"""`segbench doctor` on what is really broken: a line for each thing, never a traceback."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from segbench.doctor import examine, installation, machine, outside, repository
from segbench.doctor.finding import FAIL, NOTE, OK, Finding
from segbench.params import Params
from support.own_folder import make_source, own
from support.params import ROOT

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")},
    "PYTHONPATH": str(ROOT / "src"),
    **{f"GIT_{who}_NAME": "tester" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
}
WHOLE = """\
schema: '2.0'
stages:
  split:
    cmd: python stages/split.py
    deps:
    - path: stages/split.py
      hash: md5
      md5: 6b7e2e3c1f6a4d2b8a1f0e9d8c7b6a59
      size: 1
    outs:
    - path: reports/split.csv
      hash: md5
      md5: 6b7e2e3c1f6a4d2b8a1f0e9d8c7b6a59
      size: 1
"""
SILENT = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of git and DVC in which nothing ran yet."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    for command in (
        ["git", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "a"],
    ):
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def doctor(root: Path, **environment: str) -> tuple[int, dict[str, str], str]:
    """Exit status, the lines by name (the worst of each), and all that was said."""
    done = subprocess.run(
        [sys.executable, "-m", "segbench", "doctor"],
        cwd=root,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    lines: dict[str, str] = {}
    for line in done.stdout.splitlines()[:-1]:
        state, name, *_ = line.split()
        assert state in (OK, NOTE, FAIL), line
        if state == FAIL or name not in lines:
            lines[name] = line
    return done.returncode, lines, said


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_repository_in_which_all_is_well(root: Path) -> None:
    started = time.monotonic()
    status, lines, said = doctor(root)
    assert status == 0, said
    assert time.monotonic() - started < 60  # seconds, on a machine that is not busy
    assert not any(line.startswith(FAIL) for line in lines.values())
    assert list(lines) == [
        *("python", "segbench", "packages", "cores", "memory", "gpu", "hardware", "params"),
        *("disk", "git", "dvc.yaml", "dvc.lock", "locks", "cache", "remote", "mlflow", "hubs"),
        *("downloads", "data", "weights"),
    ]
    assert "precision bf16-mixed" in lines["hardware"] or "32-true" in lines["hardware"]
    assert said.splitlines()[-1].startswith("doctor: nothing to mend, ")


def test_everything_broken_at_once(root: Path) -> None:
    shutil.rmtree(root / ".git")
    for name in ("params.yaml", "requirements.lock"):
        (root / name).unlink()
    (root / "dvc.yaml").write_text("stages:\n  a: [\n")
    (root / "dvc.lock").write_text("schema: '2.0'\nstages:\n  down")
    (root / ".dvc/tmp/rwlock").write_text('{"wri')
    (root / ".dvc/config").write_bytes(b"[core\n\xff\n")
    (root / "mlflow.db").write_text("not a database, but longer than a hundred bytes" * 9)
    status, lines, said = doctor(root)
    assert status == 1
    failed = {name for name, line in lines.items() if line.startswith(FAIL)}
    assert failed == {"params", "git", "dvc.yaml", "dvc.lock", "locks", "cache", "mlflow"}, said
    for name in failed:
        assert ";" in lines[name], lines[name]  # the way out


def test_without_a_package(root: Path, tmp_path: Path) -> None:
    """As after a set-up that was cut off."""
    (tmp_path / "broken/torch").mkdir(parents=True)
    (tmp_path / "broken/torch/__init__.py").write_text("raise ImportError('libtorch.so: no file')")
    status, lines, _ = doctor(root, PYTHONPATH=f"{tmp_path / 'broken'}:{ROOT / 'src'}")
    assert status == 1
    assert "libtorch.so: no file); the environment is broken" in lines["hardware"]
    assert lines["params"].startswith(OK)


def test_no_secret_and_no_home_is_printed(root: Path) -> None:
    url = "https://me:s3cret@127.0.0.1:9/store?token=s3cret"
    dvc = [sys.executable, "-m", "dvc", "remote", "add", "--default", "there", url]
    subprocess.run(dvc, cwd=root, check=True, stdout=subprocess.DEVNULL)
    status, lines, said = doctor(
        root, MLFLOW_TRACKING_URI="http://me:s3cret@127.0.0.1:9/", HOME=str(root.parent)
    )
    assert status == 0, said
    assert "http://***@127.0.0.1:9/ does not answer (connection refused)" in lines["mlflow"]
    assert "https://***@127.0.0.1:9/store?***" in lines["remote"]
    assert "a password of it stands in .dvc/config, which is in git" in lines["remote"]
    assert "s3cret" not in said
    assert str(root.parent) not in said
    assert "~/clone/.dvc/cache" in lines["cache"]


def test_a_check_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    over = threading.Event()
    monkeypatch.setattr(examine, "DEADLINE_S", 1.0)
    monkeypatch.setattr(outside, "hubs", lambda: over.wait(60) and [])
    lines = [str(finding) for finding in examine.examine(root)]
    over.set()
    assert any(line.startswith("note hubs       no answer within 1 s") for line in lines)


@pytest.mark.parametrize(
    ("lock", "state", "said"),
    [
        (None, OK, "none yet"),
        ("", FAIL, "torn, 0 bytes"),
        ("schema: '2.0'\nstages:\n  split:\n    cmd: a\n    deps:", FAIL, "torn"),
        ("<<<<<<< ours\nschema\n", FAIL, "a merge conflict of git"),
        (WHOLE, OK, "whole, 1 stages have run"),
    ],
)
def test_dvc_lock(lock: str | None, state: str, said: str, tmp_path: Path) -> None:
    if lock is not None:
        (tmp_path / "dvc.lock").write_text(lock)
    found = only(repository.lock_file(tmp_path))
    assert found.state == state
    assert said in found.found


def test_who_holds_a_lock(root: Path) -> None:
    code = (
        "import fcntl, time\nfile = open('.dvc/tmp/lock', 'a')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        found = only(repository.locks(root))
        assert found.state == NOTE
        assert f".dvc/tmp/lock by process {holder.pid}" in found.found
    finally:
        holder.kill()
        holder.communicate()
    assert only(repository.locks(root)).state == OK
    gone = {"write": {"/x": {"pid": 2**22 + 5, "cmd": "dvc repro"}}, "read": {}}
    (root / ".dvc/tmp/rwlock").write_text(str(gone).replace("'", '"'))
    found = only(repository.locks(root))
    assert found.state == NOTE
    assert f"processes that are gone ({2**22 + 5})" in found.found


def test_git_changed_shallow_and_unfinished(root: Path, tmp_path: Path) -> None:
    assert only(repository.git(root)).found.endswith("clean")
    (root / "params.yaml").write_text("x")
    assert "1 tracked files changed" in only(repository.git(root)).found
    subprocess.run(["git", "commit", "-qam", "b"], cwd=root, env=ENVIRONMENT, check=True)
    clone = ["git", "clone", "--quiet", "--depth", "1", f"file://{root}", str(tmp_path / "shallow")]
    subprocess.run(clone, check=True)
    found = only(repository.git(tmp_path / "shallow"))
    assert (found.state, "shallow" in found.found) == (NOTE, True)
    with pytest.MonkeyPatch.context() as patch:  # as in a container with another user's volume
        patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        found = only(repository.git(root))
    assert found.state == FAIL
    assert found.way_out == f"git config --global --add safe.directory {root}"
    (tmp_path / "bare").mkdir()
    assert only(repository.git(tmp_path / "bare")).state == FAIL


def test_the_remote(root: Path, tmp_path: Path) -> None:
    dvc = [sys.executable, "-m", "dvc"]
    place = tmp_path / "there"
    for command in (
        ["remote", "add", "--default", "disk", str(place)],
        ["config", "cache.type", "hardlink,symlink"],
    ):
        subprocess.run([*dvc, *command], cwd=root, check=True, stdout=subprocess.DEVNULL)
    cache, remote = repository.cache(root)
    assert "taken from by hardlink,symlink" in cache.found
    assert (remote.state, "is not there" in remote.found) == (NOTE, True)
    place.mkdir()
    assert repository.cache(root)[1].state == OK


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status) if status != 200 else self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [
        (200, OK, "answers"),
        (401, NOTE, "wants another name or password"),
        (500, NOTE, "answers with status 500"),
        (0, NOTE, "does not answer (connection refused)"),
    ],
)
def test_a_server(
    status: int, state: str, said: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(status or 200) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri if status else SILENT)
        found = only(outside.mlflow(root))
    assert (found.state, said in found.found) == (state, True), found


def database(path: Path, *statements: str) -> None:
    made = sqlite3.connect(path)
    for statement in ("CREATE TABLE runs (id)", *statements):
        made.execute(statement)
    made.commit()
    made.close()


def test_the_database(root: Path) -> None:
    path = root / "mlflow.db"
    assert only(outside.mlflow(root)).found.endswith("none yet")
    path.touch()
    assert "not a database of MLflow" in only(outside.mlflow(root)).found
    path.unlink()
    database(path, *["INSERT INTO runs VALUES (hex(randomblob(4000)))"] * 20)
    assert "whole, 20 runs" in only(outside.mlflow(root)).found
    with sqlite3.connect(path) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        found = only(outside.mlflow(root))
        assert (found.state, "locked by a process" in found.found) == (NOTE, True)
        writer.rollback()
    writer.close()
    content = bytearray(path.read_bytes())
    content[8192:90000] = b"\x07" * (90000 - 8192)
    path.write_bytes(content)
    found = only(outside.mlflow(root))
    assert (found.state, "damaged" in found.found) == (FAIL, True), found
    path.unlink()
    database(path, "CREATE TABLE _alembic_tmp_experiments (id)")
    found = only(outside.mlflow(root))
    assert (found.state, "half made" in found.found) == (NOTE, True)
    assert "then 'segbench sync' fills a new one" in found.way_out


def test_data_of_external_sets(root: Path, tree: dict[str, Any], tmp_path: Path) -> None:
    source = make_source(tmp_path / "clinic", "ab")
    tree["comparison"]["external"] = {
        "clinic": own(source, classes=["background", "polyp"]).model_dump(),
        "gone": own(tmp_path / "gone").model_dump(),
    }
    found = outside.data(root, Params.model_validate(tree))
    assert [(one.state, one.found) for one in found] == [
        ("ok", "generated, needs no file"),
        ("ok", f"comparison.external.clinic: {source}, 2 samples"),
        ("FAIL", f"comparison.external.gone: source {tmp_path / 'gone'} does not exist"),
        (
            "FAIL",
            "comparison.external.gone: its classes are background, crack, networks are trained on "
            "background, polyp; name them alike if they are the same, else take it out",
        ),
    ]
    assert "correct comparison.external.gone.source" in found[2].way_out


def test_data(root: Path, tree: dict[str, Any], tmp_path: Path) -> None:
    def look(folder: Path, **changes: Any) -> Finding:
        tree["dataset"] = own(folder, **changes).model_dump(mode="json")
        return only(outside.data(root, Params.model_validate(tree)))

    found = look(tmp_path / "photos")
    assert (found.state, "does not exist" in found.found) == (FAIL, True)
    make_source(tmp_path / "photos", "abc")
    found = look(tmp_path / "photos")
    assert (found.state, found.found.endswith("photos, 3 samples")) == (OK, True)
    found = look(tmp_path / "photos", images="pictures/{id}.png")
    assert (found.state, "no file matches 'pictures/{id}.png'" in found.found) == (FAIL, True)
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "photos")
    assert "an archive of" in look(Path(archive)).found


def test_weights(root: Path, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tree["comparison"]["candidates"]
    tree["candidates"][first] |= {"weights": "mine.pth", "weights_sha256": "0" * 64}
    tree["candidates"][second] |= {"weights": "imagenet"}
    params = Params.model_validate(tree)
    assert "mine.pth: no such file" in only(outside.weights(root, params)).found
    (root / "mine.pth").write_text("weights")
    assert "not of weights_sha256" in only(outside.weights(root, params)).found
    tree["candidates"][first] |= {"weights": "none", "weights_sha256": None}
    params = Params.model_validate(tree)
    monkeypatch.setenv("HF_HUB_CACHE", str(root / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(root / "torch"))
    found = only(outside.weights(root, params))
    assert (found.state, second in found.found) == (NOTE, True)
    name = tree["candidates"][second]["encoder"].removeprefix("tu-")
    kept = root / f"hub/models--timm--{name}.in1k/snapshots/1/model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert only(outside.weights(root, params)).state == OK


def test_other_packages_than_those_of_the_lock(root: Path) -> None:
    assert only(installation.packages(root)).state == OK
    lock = root / "requirements.lock"
    text = lock.read_text()
    lock.write_text(f"surely-not-installed==1.0 \\\n    --hash=sha256:0\n{text}")
    missing, versions = installation.packages(root)
    assert (missing.state, "(surely-not-installed)" in missing.found) == (FAIL, True)
    lock.write_text(text.replace("\ntimm==", "\ntimm==0."))
    others, versions = installation.packages(root)
    assert (others.state, others.found.count(" instead of ")) == (NOTE, 1)
    assert "torch 2." in versions.found


def test_another_clones_code_is_named(root: Path) -> None:
    (root / "src/segbench").mkdir(parents=True)
    found = only(installation.code(root))
    assert (found.state, str(ROOT) in found.found) == (NOTE, True)


def test_a_process_that_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "BUSY", 0.1)  # of a core, on a machine that may be busy
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        found = only(machine.cores())
    finally:
        burner.kill()
        burner.wait()
    assert found.state == NOTE
    assert "busy: " in found.found


def test_too_little_disk(root: Path, tree: dict[str, Any]) -> None:
    tree["dataset"].update(num_sequences=10**8)
    found = only(machine.disk(root, Params.model_validate(tree)))
    assert (found.state, "all of this comparison takes about" in found.found) == (NOTE, True)
    tree["dataset"].update(num_sequences=12)
    assert only(machine.disk(root, Params.model_validate(tree))).state == OK


@contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
def test_a_full_disk(tmp_path: Path) -> None:
    with disk(tmp_path, "size=8m"):
        assert only(machine.disk(tmp_path, None)).state == FAIL


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
def test_a_disk_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "weights"))
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "datasets"))
    assert only(outside.downloads()).state == OK
    with disk(tmp_path, "ro"):
        assert only(outside.mlflow(tmp_path)).state == FAIL
        assert only(outside.downloads()).state == NOTE


def test_a_gpu_that_params_ask_for(tree: dict[str, Any]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    tree["hardware"]["device"] = "cuda"
    _, found = machine.devices(Params.model_validate(tree))
    assert (found.state, "no cuda on this machine" in found.found) == (FAIL, True)


def test_a_gpu_that_torch_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver says that there is one."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB, 81559 MiB, 4 MiB, 550.54'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    gpu, _ = machine.devices(None)
    assert "NVIDIA H100 80GB (4 MiB of 81559 MiB in use, driver 550.54)" in gpu.found
    import torch

    assert gpu.state == (OK if torch.cuda.is_available() else NOTE)
