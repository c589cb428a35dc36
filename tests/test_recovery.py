"""What a kill, a full disk or a failing disk leaves behind is mended, and nothing runs again."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from segbench.recovery import objects, outputs
from segbench.recovery.mend import finish, mend

RUNS = ["a-0-0", "b-0-0"]
PIPELINE = """\
stages:
  download:
    cmd: python make.py download data/set/1.txt data/set/2.txt
    deps: [make.py]
    outs: [data/set]
  train:
    matrix: {candidate: [a, b], fold: [0], seed: [0]}
    cmd: python make.py ${item.candidate}
      data/train/${item.candidate}/weights data/train/${item.candidate}/record/end.json
      reports/runs/${item.candidate}.json
    deps: [make.py, data/set]
    outs:
      - data/train/${item.candidate}/weights
      - data/train/${item.candidate}/record
      - reports/runs/${item.candidate}.json: {cache: false}
"""
MAKE = """\
import sys
from pathlib import Path
for path in map(Path, sys.argv[2:]):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{path} " * 100)
with open("ran.txt", "a") as file:
    print(sys.argv[1], file=file)
"""
WEIGHTS = "data/train/a/weights"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    **{f"GIT_{who}_NAME": "tester" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
}


def run(root: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repro(root: Path) -> list[str]:
    """Run the pipeline; which stages ran."""
    (root / "ran.txt").unlink(missing_ok=True)
    run(root, sys.executable, "-m", "dvc", "repro")
    ran = root / "ran.txt"
    return ran.read_text().split() if ran.exists() else []


def everything(root: Path) -> dict[str, str]:
    """All that the stages made."""
    files = [path for name in ("data", "reports") for path in (root / name).rglob("*")]
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in files
        if path.is_file() and path.name != ".gitignore"
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which real DVC has run all stages once."""
    root = tmp_path_factory.mktemp("finished") / "clone"
    root.mkdir()
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "make.py").write_text(MAKE)
    run(root, "git", "init", "--quiet")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    assert repro(root) == ["download", "a", "b"]
    finish(root, RUNS)
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "clone", symlinks=True))


def stored(root: Path, path: str) -> Path:
    """The object in the cache of an output of run a."""
    stages = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    (found,) = [out["md5"] for out in stages["train@a-0-0"]["outs"] if out["path"] == path]
    return root / ".dvc/cache/files/md5" / found[:2] / found[2:]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:20])
    path.chmod(0o444)


def cut(share: float) -> Callable[[str], str]:
    return lambda text: text[: int(share * len(text))]


@pytest.mark.parametrize(
    "tear",
    [
        lambda text: "",
        lambda text: "\0" * len(text),
        *map(cut, (0.002, 0.01, 0.3, 0.55, 0.8, 0.99)),
        lambda text: text[: text.index("  train@a")],  # between two stages
        lambda text: text[: text.index("    outs:", text.index("  train@a"))],
    ],
)
def test_a_torn_dvc_lock(
    root: Path, tear: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    lock = root / "dvc.lock"
    before = lock.read_text()
    lock.write_text(tear(before))
    mend(root, RUNS)
    assert lock.read_text() == before
    (said,) = capsys.readouterr().err.splitlines()
    assert "mended: dvc.lock was torn; 3 stages are known again" in said
    mend(root, RUNS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("run_cache", "runs"), [(True, []), (False, ["b"])])
def test_a_torn_dvc_lock_without_its_copy(run_cache: bool, runs: list[str], root: Path) -> None:
    """What was committed is known; what ran since then comes from the run cache, or runs again and
    gives the same."""
    if not run_cache:
        shutil.rmtree(root / ".dvc/cache/runs")
    lock = root / "dvc.lock"
    whole = lock.read_text()
    lock.write_text(whole[: whole.index("  train@b")])
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "--message", "a")
    lock.write_text(whole[:100])
    (root / ".dvc/tmp/segbench/dvc.lock").unlink()
    mend(root, RUNS)
    before = everything(root)
    assert repro(root) == runs
    assert lock.read_text() == whole
    assert everything(root) == before


def test_an_older_dvc_lock_of_git_is_left_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = root / "dvc.lock"
    older = lock.read_text()
    older = older[: older.index("  train@b")]
    lock.write_text(older)
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "--message", "older")
    mend(root, RUNS)
    assert lock.read_text() == older
    conflict = f"<<<<<<< ours\n{older}=======\n{older}>>>>>>> theirs\n"
    lock.write_text(conflict)
    mend(root, RUNS)
    assert lock.read_text() == conflict
    assert capsys.readouterr().err == ""


def entry(pid: int, command: str) -> str:
    info = {"pid": pid, "cmd": command}
    return json.dumps({"write": {"/x/data": info}, "read": {"/x/make.py": [info]}})


@pytest.mark.parametrize(
    "text",
    [
        *("", '{"wri', "[]", '{"write": {"/x": {"pid": 3}}}', '{"write": {"/x": 4}}', "\0\0"),
        entry(2**22 + 5, "dvc repro"),  # no such process
        entry(os.getpid(), "/usr/bin/dvc repro --elsewhere"),  # another process of its number
    ],
)
def test_a_lock_that_nobody_holds(
    root: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = root / ".dvc/tmp/rwlock"
    lock.write_text(text)
    mend(root, RUNS)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not lock.exists() or json.loads(lock.read_text()) == {"write": {}, "read": {}}
    assert repro(root) == []


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/dvc repro",
        "/my work/.venv/bin/dvc repro",
        "/my work/src/segbench/jobs/__main__.py --jobs 2",
        "/my work/src/segbench/jobs/__main__.py",
    ],
)
def test_a_lock_that_is_held_is_left_alone(
    root: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is restored into the outputs of a stage that runs."""
    code = "import time; time.sleep(60)"
    arguments = re.sub(r".*(__main__\.py|/dvc) ?", "", command).split()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    try:
        text = entry(process.pid, command)
        (root / ".dvc/tmp/rwlock").write_text(text)
        (root / WEIGHTS).unlink()
        mend(root, RUNS)
    finally:
        process.kill()
        process.wait()
    assert (root / ".dvc/tmp/rwlock").read_text() == text
    assert not (root / WEIGHTS).exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("spoil", [damage, truncate, Path.unlink])
@pytest.mark.parametrize(
    "path", [WEIGHTS, "data/train/a/record/end.json", "reports/runs/a.json", None]
)
def test_a_damaged_output_is_restored(
    root: Path,
    spoil: Callable[[Path], None],
    path: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = everything(root)
    if path is None:
        shutil.rmtree(root / "data/train/a")
    else:
        spoil(root / path)
    mend(root, RUNS)
    assert everything(root) == before
    (said,) = capsys.readouterr().err.splitlines()
    assert "missing or damaged, restored from" in said
    if spoil is damage:
        assert repro(root) == []


def test_what_is_not_asked_for_is_not_restored(root: Path) -> None:
    shutil.rmtree(root / "data/train/b")
    mend(root, RUNS[:1])
    assert not (root / "data/train/b").exists()
    (root / WEIGHTS).unlink()
    mend(root, RUNS, force=True)
    assert not (root / WEIGHTS).exists()


@pytest.mark.parametrize("spoil", [damage, truncate])
@pytest.mark.parametrize("path", [WEIGHTS, "data/train/a/record"])
def test_a_damaged_object_is_taken_from_the_output(
    root: Path,
    spoil: Callable[[Path], None],
    path: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = everything(root)
    found = stored(root, path)
    whole = found.read_bytes()
    spoil(found)
    mend(root, RUNS)
    assert found.read_bytes() == whole
    (said,) = capsys.readouterr().err.splitlines()
    assert "damaged files are removed from DVC's cache" in said
    assert said.endswith(": 1")
    assert repro(root) == []
    assert everything(root) == before


@pytest.mark.parametrize("remote", [False, True])
def test_where_both_are_damaged_it_is_fetched_or_made_anew(
    root: Path, remote: bool, tmp_path: Path
) -> None:
    before = everything(root)
    if remote:
        dvc = [sys.executable, "-m", "dvc"]
        run(root, *dvc, "remote", "add", "--default", "there", str(tmp_path / "there"))
        run(root, *dvc, "push", "--quiet")
    damage(stored(root, WEIGHTS))
    (root / WEIGHTS).unlink()
    mend(root, RUNS)
    assert repro(root) == ([] if remote else ["a"])
    assert everything(root) == before
    assert stored(root, WEIGHTS).read_text() == before[WEIGHTS]


def test_what_was_checked_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = objects.md5_of
    for module in (objects, outputs):
        monkeypatch.setattr(module, "md5_of", lambda path: read.append(path) or original(path))
        monkeypatch.setattr(module, "CLOCK_S", 0.0)
    mend(root, RUNS)
    assert len(read) > 5  # a copy is new
    read.clear()
    mend(root, RUNS)
    assert read == []


def test_what_only_is_to_be_told_stays_as_it_is(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by `segbench repro --dry`."""

    def state() -> dict[str, bytes]:
        files = [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    damage(stored(root, "data/train/a/record"))
    (root / WEIGHTS).unlink()
    before = state()
    assert mend(root, RUNS, dry=True)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["would be mended"] * 2, said
    assert state() == before
    (root / ".dvc/tmp/rwlock").write_text('{"wri')
    (root / "dvc.lock").write_text((root / "dvc.lock").read_text()[:100])
    before = state()
    assert not mend(root, RUNS, dry=True)
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert state() == before
    assert mend(root, RUNS)
    assert repro(root) == []


def test_checkpoints_are_kept_until_dvc_knows_that_the_training_ended(root: Path) -> None:
    """And no longer: a training that is asked for again trains again."""
    made = "reports/runs/a.json"
    md5 = stored(root, made).parent.name + stored(root, made).name
    for name, text in {"known": md5, "unknown": "0" * 32}.items():
        mark = root / f"data/checkpoints/{name}-fold0-seed0/key/finished"
        mark.parent.mkdir(parents=True)
        mark.write_text(f"{text}\n")
    (root / "data/checkpoints/interrupted-fold0-seed0/key").mkdir(parents=True)
    finish(root, RUNS)
    left = sorted(path.name for path in (root / "data/checkpoints").iterdir())
    assert left == ["interrupted-fold0-seed0", "unknown-fold0-seed0"]


def test_two_that_end_at_once_take_turns(root: Path) -> None:
    """They write the same files, each by way of the same temporary one."""
    with FileLock(root / ".dvc/tmp/segbench/finish.lock"):
        other = threading.Thread(target=finish, args=(root, RUNS))
        other.start()
        other.join(0.5)
        assert other.is_alive()
    other.join(30)
    assert not other.is_alive()
