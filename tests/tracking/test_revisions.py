"""Records of a commit and of an experiment of DVC, from its cache or its remote."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.errors import InputError
from segbench.tracking.client import connect
from segbench.tracking.records import read_run
from segbench.tracking.revisions import fetch_records
from support.contest import Contest
from support.params import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")

# The record of a training of the candidate that params.yaml names, beside its model.
MAKE = """\
import shutil, yaml
name = yaml.safe_load(open("params.yaml"))["candidate"]
shutil.copytree(f"made/{name}/train/record", "data/train/record")
shutil.copytree(f"made/{name}/evaluate", "data/evaluate")
"""
STAGE = """\
stages:
  make:
    cmd: python make.py
    params: [candidate]
    outs: [data/train/record, data/evaluate]
"""


class Repository:
    """Two revisions: `good` is committed, and `bad` an experiment, neither in the workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **{f"GIT_{who}_NAME": "tester" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
        }
        folder.mkdir()
        contest = Contest(folder / "made", "polyps")
        for alias in ("good", "bad"):
            contest.train(alias)
        for name, text in {
            "make.py": MAKE,
            "dvc.yaml": STAGE,
            "params.yaml": "candidate: good\n",
            ".gitignore": "/made\n",
        }.items():
            (folder / name).write_text(text)
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        self.run("dvc", "remote", "add", "-d", "store", str(folder.parent / "remote"))
        self.run("dvc", "repro", "-q")
        self.commit()
        self.run("dvc", "exp", "run", "-q", "-n", "other", "--set-param", "candidate=bad")
        self.run("git", "checkout", "-q", ".")
        shutil.rmtree(folder / "data")

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "-q", "-m", "good")

    def run(self, *command: str) -> str:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ).stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("revisions") / "repository")


@pytest.mark.parametrize(("revision", "alias"), [("HEAD", "good"), ("other", "bad")])
def test_the_records_of_a_revision(
    revision: str, alias: str, repository: Repository, tmp_path: Path
) -> None:
    lock = (repository.folder / "dvc.lock").read_bytes()
    assert fetch_records(repository.folder, revision, tmp_path) == []
    assert read_run(tmp_path / "data/train/record").name == f"{alias}-fold0-seed0"
    evaluated = tmp_path / "data/evaluate"
    assert json.loads((evaluated / "record/end.json").read_text())["status"] == "FINISHED"
    assert (evaluated / "model.pt2").read_bytes() == alias.encode()
    # Neither the workspace nor its lock file is touched.
    assert not (repository.folder / "data/train").exists()
    assert (repository.folder / "dvc.lock").read_bytes() == lock


def test_what_only_the_remote_has(repository: Repository, tmp_path: Path) -> None:
    repository.run("dvc", "push", "-q")
    cache = repository.folder / ".dvc/cache/files"
    kept = tmp_path / "kept"
    shutil.move(cache, kept)
    try:
        copies = tmp_path / "copies"
        copies.mkdir()
        assert fetch_records(repository.folder, "HEAD", copies) == []
        assert read_run(copies / "data/train/record").name == "good-fold0-seed0"
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        shutil.move(kept, cache)


def test_what_nobody_has_is_told(repository: Repository, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository.folder), str(clone)], check=True)
    (clone / ".dvc/config").write_text("")
    copies = tmp_path / "copies"
    copies.mkdir()
    try:
        missing = fetch_records(clone, "HEAD", copies)
    except InputError as problem:
        missing = [str(problem)]
    assert missing
    for line in missing:
        assert "dvc fetch" in line
        assert "\n" not in line


def test_a_revision_that_does_not_exist(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--rev v99: neither git nor DVC knows it") as caught:
        fetch_records(repository.folder, "v99", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.mlflow
def test_the_command_sends_an_experiment_of_dvc(repository: Repository, tmp_path: Path) -> None:
    """Its model is refused, which is none; its training arrives."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    environment = {
        **repository.environment,
        "PYTHONPATH": str(ROOT / "src"),
        "MLFLOW_TRACKING_URI": uri,
    }
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "segbench", "sync", "--rev", "other"],
            cwd=repository.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "no plain zip archive" in done.stderr
        assert "1 records are in" in done.stdout
    client = connect(uri)
    experiment = client.get_experiment_by_name("polyps")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("bad-fold0-seed0", "FINISHED")
