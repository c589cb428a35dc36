"""Checkpoints in a store: another machine goes on from them, and a failing store stops nothing."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pytest
from fsspec.implementations.local import LocalFileSystem
from mlflow.tracking import MlflowClient

from segbench.devices import resolve
from segbench.doctor import outside
from segbench.errors import InputError
from segbench.params import Params
from segbench.recovery.trainings import forget_finished
from segbench.tracking.records import Run, now_ms, read_run
from segbench.training import checkpoints
from segbench.training.checkpoints import Checkpoints
from segbench.training.identity import checkpoint_key
from segbench.training.mirror import Mirror
from segbench.training.trainer import Trainer
from support.kills import REPRO, clone, kill_all
from support.params import problems, read_params, shrink
from support.pipeline import fit_one, outcome, stop_after_an_epoch
from support.workspace import Workspace

# MLflow's own use of others.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("offline")]
NAME = "mobilenetv2_035-fold0-seed0"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://store"
    fsspec.filesystem("memory").rm("/", recursive=True)


def a_run() -> Run:
    return Run("a" * 32, "train", "polyps", NAME, now_ms())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*"))


def save(kept: Checkpoints, url: str, *steps: int) -> None:
    with kept.mirrored(url):
        kept.same_run(a_run())
        for step in steps:
            kept.save({"step": step}, step)


def elsewhere(folder: Path, url: str, key: str = "key") -> dict[str, Any] | None:
    """The latest state on a machine that has none of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    kept = Checkpoints(folder / NAME, key)
    with kept.mirrored(url):
        return kept.load_latest()


def test_another_machine_goes_on_as_the_same_run(
    tree: dict[str, Any], packed: Path, tmp_path: Path, store: Path
) -> None:
    fit_one(Params.model_validate(tree), packed, tmp_path / "unbroken")
    tree["checkpoints"]["url"] = str(store)
    stop_after_an_epoch(tree, packed, tmp_path / "first")
    (begun,) = store.iterdir()
    assert "resumed at epoch 1" in fit_one(Params.model_validate(tree), packed, tmp_path / "second")
    assert outcome(tmp_path / "second") == outcome(tmp_path / "unbroken")
    ids = {read_run(path).id for path in (begun, tmp_path / "second/train/record")}
    assert len(ids) == 1


def test_a_training_that_ended_elsewhere_trains_no_epoch_again(
    tree: dict[str, Any],
    packed: Path,
    tmp_path: Path,
    memory: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does it try learning rates again."""
    tree["comparison"]["tuning"] = {"learning_rates": [1e-4, 3e-3], "share": 0.5}
    tree["checkpoints"]["url"] = memory
    params = Params.model_validate(tree)
    fit_one(params, packed, tmp_path / "first")
    monkeypatch.delattr(Trainer, "train_step")
    assert "resumed at epoch 2" in fit_one(params, packed, tmp_path / "second")
    assert outcome(tmp_path / "second") == outcome(tmp_path / "first")


def test_the_key_does_not_depend_on_the_url(tree: dict[str, Any], packed: Path) -> None:
    def key() -> str:
        params = Params.model_validate(tree)
        resolved = resolve(params.hardware)
        return checkpoint_key(params, "mobilenetv2_035", 0, 0, resolved, packed / "arrays")

    before = key()
    tree["checkpoints"]["url"] = "s3://bucket/folder"
    assert key() == before


def test_nor_on_where_the_workspace_lies(params: Params, packed: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(packed / "arrays", tmp_path / "elsewhere")
    resolved = resolve(params.hardware)
    keys = {
        checkpoint_key(params, "mobilenetv2_035", 0, 0, resolved, arrays)
        for arrays in (packed / "arrays", moved)
    }
    assert len(keys) == 1


def test_the_newest_are_kept(tmp_path: Path, store: Path, memory: str) -> None:
    for step in range(6):
        save(Checkpoints(tmp_path / "here" / NAME, "key"), str(store), step)
    assert names(store) == ["000000003.pt", "000000004.pt", "000000005.pt", "run.json"]
    save(Checkpoints(tmp_path / "there" / NAME, "key"), memory, 7)
    assert elsewhere(tmp_path / "other", memory) == {"step": 7}


def test_what_is_newer_here_is_taken_and_brought(tmp_path: Path, store: Path) -> None:
    here = Checkpoints(tmp_path / "here" / NAME, "key")
    save(here, str(store), 1)
    here._mirror = None
    here.save({"step": 2}, 2)
    save(here, str(store))
    assert here.load_latest() == {"step": 2}
    assert elsewhere(tmp_path / "other", str(store)) == {"step": 2}


def test_checkpoints_of_another_key_go(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Checkpoints(tmp_path / "here" / NAME, "key"), str(store), 1)
    (store / f"{NAME}0.key").mkdir()
    assert elsewhere(tmp_path / "other", str(store), "new") is None
    assert [path.name for path in store.iterdir()] == [f"{NAME}0.key"]
    assert f"deleted {NAME}.key in the store" in capsys.readouterr().err


def test_half_a_file_gives_way_to_the_one_before(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Checkpoints(tmp_path / "here" / NAME, "key"), str(store), 1)
    save(Checkpoints(tmp_path / "here" / NAME, "key"), str(store), 2)
    newest = store / f"{NAME}.key" / "000000002.pt"
    whole = newest.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        newest.write_bytes(content)
        assert elsewhere(tmp_path / "other", str(store)) == {"step": 1}
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"warning: {newest}: damaged (its checksum is another); taking")


def slow_down(patch: pytest.MonkeyPatch, before: Callable[[str], None]) -> None:
    """Let something happen before each upload of a checkpoint."""
    put = LocalFileSystem.put_file

    def put_file(self: LocalFileSystem, path: str, *arguments: Any, **named: Any) -> None:
        if path.endswith(".pt"):
            before(path)
        put(self, path, *arguments, **named)

    patch.setattr(LocalFileSystem, "put_file", put_file)


def test_the_newest_wins_and_what_is_read_stays(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are reused for later checkpoints, but not the one that is being uploaded."""
    uploaded: list[str] = []
    began, may_go_on = threading.Event(), threading.Event()

    def before(path: str) -> None:
        uploaded.append(Path(path).stem.lstrip("0"))
        began.set()
        assert may_go_on.wait(30)

    slow_down(monkeypatch, before)
    kept = Checkpoints(tmp_path / "here" / NAME, "key")
    with kept.mirrored(str(store)):
        kept.same_run(a_run())
        kept.save({"step": 1}, 1)
        assert began.wait(30)
        for step in range(2, 8):
            kept.save({"step": step}, step)
        assert len(list(kept.folder.glob("*.pt"))) == checkpoints.KEPT + 1
        may_go_on.set()
    assert uploaded == ["1", "7"]
    newest = store / f"{NAME}.key" / "000000007.pt"
    assert elsewhere(tmp_path / "other", str(store)) == {"step": 7}
    newest.unlink()
    assert elsewhere(tmp_path / "other", str(store)) == {"step": 1}


def test_a_store_that_fails_for_a_while_costs_one_line(
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails, tried = [True], threading.Semaphore(0)

    def before(path: str) -> None:
        tried.release()
        if fails[0]:
            raise ConnectionError(f"no way to https://host/{path}?X-Amz-Signature=abc")

    slow_down(monkeypatch, before)
    kept = Checkpoints(tmp_path / "here" / NAME, "key")
    with kept.mirrored(str(store)):
        kept.same_run(a_run())
        for step in (1, 2):
            kept.save({"step": step}, step)
            assert tried.acquire(timeout=30)
        fails[0] = False
        kept.save({"step": 3}, 3)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        f"warning: checkpoints.url: {store}/{NAME}.key does not take checkpoints"
    )
    assert "ConnectionError: no way to https://host/" in said
    assert "abc" not in said
    assert elsewhere(tmp_path / "other", str(store)) == {"step": 3}


def test_an_interrupted_training_waits_for_no_dead_store(
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hangs = threading.Event()

    def before(_: str) -> None:
        assert hangs.wait(30)

    slow_down(monkeypatch, before)
    monkeypatch.setattr("segbench.training.mirror.WAIT_INTERRUPTED_S", 0.1)
    kept = Checkpoints(tmp_path / "here" / NAME, "key")
    with pytest.raises(KeyboardInterrupt), kept.mirrored(str(store)):
        kept.same_run(a_run())
        kept.save({"step": 1}, 1)
        raise KeyboardInterrupt
    assert "did not take the last checkpoint within 0 s" in capsys.readouterr().err
    thread = kept._mirror._thread if kept._mirror else None
    hangs.set()
    assert thread
    thread.join()


def test_what_is_done_is_forgotten_in_the_store(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Checkpoints(tmp_path / "data/checkpoints" / NAME, "key")
    (tmp_path / "run.json").write_text("{}")
    with kept.mirrored(str(store)):
        kept.same_run(a_run())
        kept.save({"step": 1}, 1)
        kept.finish(tmp_path / "run.json")
    forget_finished(tmp_path)
    assert names(store)
    (tmp_path / "dvc.lock").write_text("md5: 99914b932bd37a50b983c5e7c90ae93b")
    forget_finished(tmp_path)
    assert list(store.iterdir()) == []
    assert not kept.folder.exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/folder", r"\(ImportError: Install s3fs to access S3\); pip install s3fs, or"),
        ("gs://bucket", "; pip install gcsfs, or set null"),
        ("s4://bucket", "Protocol not known: s4; write a folder"),
        ("/no/such/folder", "/no/such/folder does not exist; make it, mount it"),
        ("file:///no/such", "/no/such does not exist; make it, mount it"),
    ],
)
def test_a_store_that_cannot_be_used_is_found_before_training(
    tree: dict[str, Any], packed: Path, tmp_path: Path, url: str, said: str
) -> None:
    tree["checkpoints"]["url"] = url
    params = Params.model_validate(tree)
    with pytest.raises(InputError, match=said):
        fit_one(params, packed, tmp_path)
    with pytest.raises(InputError, match=said):
        outside.check_store(tmp_path, params)
    (found,) = outside.store(params)
    assert found.state == "FAIL"
    assert "checkpoints.url: " in str(found)


def test_a_store_that_cannot_be_written_to_is_found_before_training(
    params: Params, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "put_file", refuse)
    with pytest.raises(InputError, match=r"cannot be used \(PermissionError: .*mend the store"):
        save(Checkpoints(tmp_path / NAME, "key"), str(store))


def test_a_store_that_answers_is_fine(tree: dict[str, Any], store: Path, memory: str) -> None:
    for url in (None, str(store), f"file://{store}", memory):
        tree["checkpoints"]["url"] = url
        found = outside.store(Params.model_validate(tree))
        assert [one.state for one in found] == (["ok"] if url else [])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:secret@bucket/folder", "holds a password or a signature"),
        ("s3://key:sec/ret@bucket", "holds a password or a signature"),
        ("https://host/folder?sig=secret", "holds a password or a signature"),
        ("checkpoints", "is neither a whole path nor an address"),
        ("key:secret@bucket", "is neither a whole path nor an address"),
        ("", "is neither a whole path nor an address"),
    ],
)
def test_an_address_that_is_refused(
    tree: dict[str, Any], tmp_path: Path, url: str, said: str
) -> None:
    tree["checkpoints"]["url"] = url
    line = problems(tree, tmp_path)
    assert f"checkpoints.url: {said}" in line
    assert "secret" not in line
    assert "sec/ret" not in line


def test_a_user_without_a_password_is_fine(tree: dict[str, Any]) -> None:
    tree["checkpoints"]["url"] = "sftp://user@host:22/folder"
    Params.model_validate(tree)


def test_the_mirror_of_a_dead_process_is_written_over(tmp_path: Path, store: Path) -> None:
    here = Checkpoints(tmp_path / "here" / NAME, "key")
    save(here, str(store), 1)
    (store / f"{NAME}.key" / ".partial-pt").write_bytes(b"half")
    save(here, str(store), 2)
    assert names(store) == ["000000001.pt", "000000002.pt", "run.json"]
    assert Mirror(str(store), here.folder, 3)._checkpoints() == ["000000002.pt", "000000001.pt"]


@pytest.mark.slow
def test_killed_here_and_done_there(tmp_path: Path, store: Path) -> None:
    """A whole pipeline, its DVC and its stage, in clones that share nothing but the store and
    MLflow."""
    tree = shrink(read_params())
    tree["comparison"]["candidates"] = ["mobilenetv2_035"]
    tree["train"]["num_epochs"] = 6
    tree["checkpoints"].update(steps=1)

    def machine(name: str, url: Path | None) -> Workspace:
        workspace = clone(tmp_path / name)
        tree["checkpoints"]["url"] = url and str(url)
        workspace.change(tree)
        workspace.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
        return workspace

    def weights(workspace: Workspace) -> bytes:
        return workspace.path(f"data/train/{NAME}/weights.safetensors").read_bytes()

    first, second, alone = machine("1", store), machine("2", store), machine("3", None)
    started = psutil.Popen(
        [*REPRO, "train"],
        cwd=first.folder,
        env=first.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not any(int(path.stem) >= 10 for path in store.glob("*/0*.pt")):
        assert started.poll() is None, "it ended before it was killed"
        time.sleep(0.005)
    kill_all(started, [started])
    started.wait()
    assert not first.path(f"reports/runs/{NAME}.json").exists()
    (begun,) = store.iterdir()
    known = read_run(begun).id
    assert "resumed at epoch 1" in second.run(*REPRO, "train")
    assert json.loads(second.path(f"reports/runs/{NAME}.json").read_text())["run"] == known
    assert list(store.iterdir()) == []
    client = MlflowClient(second.environment["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert (run.data.tags["segbench.run"], run.info.status) == (known, "FINISHED")
    alone.run(*REPRO, "train")
    assert weights(second) == weights(alone)
