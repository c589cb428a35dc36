"""Kills at the worst moments, and full disks: the same command again, nothing by hand, the same
results, and no training that had finished is done again.

KILLS=30 python -m pytest -n 0 -s -m exhaustive tests/test_kills.py prints what was hit; it takes
half an hour on two cores, and KILLS_SEED gives other moments.
"""

import ctypes
import json
import os
import random
import re
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from support.kills import REPRO, clone, family, kill_all
from support.workspace import Workspace

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif("KILLS" not in os.environ, reason="takes half an hour; set KILLS=30"),
    pytest.mark.skipif(not hasattr(select, "epoll"), reason="watches files as Linux does"),
]

KILLS = int(os.environ.get("KILLS", "30"))
SEED = int(os.environ.get("KILLS_SEED", "0"))
IN_MODIFY, IN_OPEN, IN_CREATE, IN_MOVED_TO = 0x2, 0x20, 0x100, 0x80
DONE = r"^train: (\S+): (\d+) epochs(.*)"
TARGETS = {
    "dvc.lock": (".", r"dvc\.lock"),
    "rwlock": (".dvc/tmp", r"rwlock"),
    "mlflow.db": (".", r"mlflow\.db(-journal)?"),
    "checkpoints": ("data/checkpoints", r"(\.partial-)?\d+\.pt"),
}
"""Folder, and names in it (of checkpoints, at any depth)."""


def results(workspace: Workspace) -> dict[str, bytes]:
    """What must be the same after any fault: splits, weights, epochs, scores."""
    patterns = ("data/train/*/weights.safetensors", "reports/metrics/*", "reports/history/*")
    paths = [path for pattern in patterns for path in workspace.folder.glob(pattern)]
    found = {
        path.relative_to(workspace.folder).as_posix(): path.read_bytes()
        for path in [*paths, workspace.path("reports/split.csv")]
    }
    for path in workspace.path("reports/runs").iterdir():
        told = json.loads(path.read_text())
        del told["run"]  # each run draws its own
        found[f"runs/{path.name}"] = json.dumps(told).encode()
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    workspace = clone(tmp_path_factory.mktemp("unbroken") / "clone")
    workspace.run(*REPRO)
    found = results(workspace)
    assert len(found) == 4 * 2 + 1
    return found


def writes(folder: Path, name: str, over: Callable[[], bool]) -> Iterator[float]:
    """Wake up whenever a file below a folder is being written; yields the time."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init()
    watched: dict[int, Path] = {}

    def watch(place: Path) -> None:
        mask = IN_MODIFY | IN_OPEN | IN_CREATE | IN_MOVED_TO
        number = libc.inotify_add_watch(handle, os.fsencode(place), mask)
        if number >= 0 and watched.get(number) != place:
            watched[number] = place
            if folder.name == "checkpoints":
                for inner in place.iterdir() if place.is_dir() else ():
                    if inner.is_dir():
                        watch(inner)

    try:
        while not over():
            if not watched:
                folder.mkdir(parents=True, exist_ok=True)
                watch(folder)
            if not select.select([handle], [], [], 0.2)[0]:
                continue
            events, at = os.read(handle, 1 << 16), 0
            while at < len(events):
                number, mask, _, length = struct.unpack_from("iIII", events, at)
                file = events[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                at += 16 + length
                if number in watched and folder.name == "checkpoints":
                    inner = watched[number] / file
                    if mask & IN_CREATE and inner.is_dir():
                        watch(inner)
                if mask & IN_MODIFY and re.fullmatch(name, file):
                    yield time.monotonic()
    finally:
        os.close(handle)


def run_and_kill(workspace: Workspace, target: str, wait: float, delay: float) -> tuple[bool, str]:
    """Run the pipeline and kill it in mid-write of a file; whether it was, and what it said.

    Args:
        workspace: in which it runs.
        target: of TARGETS.
        wait: seconds from the start before which no write counts.
        delay: seconds from the begin of a write to the kill.
    """
    log = workspace.folder.parent / "log.txt"
    with log.open("w") as file:
        started = psutil.Popen(
            REPRO,
            cwd=workspace.folder,
            env=workspace.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    known, over = [started], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            known[:] = family(started) or known

    looking = threading.Thread(target=look)
    looking.start()
    folder, name = TARGETS[target]
    hit = False
    begun = time.monotonic()
    for at in writes(workspace.path(folder), name, lambda: started.poll() is not None):
        if at - begun > wait:
            time.sleep(delay)
            hit = started.poll() is None
            break
    if hit:
        kill_all(started, known)
    over.set()
    looking.join()
    started.wait()
    return hit, log.read_text()


def again(trained: list[tuple[str, int]]) -> list[str]:
    """Of trainings that ended, those that took epochs though they had ended before."""
    before: set[str] = set()
    found = []
    for name, epochs in trained:
        if name in before and epochs:
            found.append(name)
        before.add(name)
    return found


def trainings(said: str) -> list[tuple[str, int]]:
    """Trainings that ended, by name, with the epochs that this took."""
    found = []
    for name, epochs, rest in re.findall(DONE, said, re.MULTILINE):
        resumed = re.search(r"resumed at epoch (\d+)", rest)
        before = int(resumed[1]) if resumed else 0
        found.append((name, int(epochs) - before))
    return found


def test_aimed_kills(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    choice = random.Random(SEED)
    hits, twice, mended, lost = Counter[str](), [], Counter[str](), 0
    number = 0
    while sum(hits.values()) < KILLS:
        number += 1
        workspace = clone(tmp_path / f"{number}" / "clone")
        trained: list[tuple[str, int]] = []
        for _ in range(12):
            ended = len(list(workspace.folder.glob("data/evaluate/*"))) == 2
            left = [name for name in TARGETS if name != "checkpoints" or not ended]
            target = min(left, key=lambda name: (hits[name], choice.random()))
            wait, delay = choice.uniform(2, 14), choice.choice([0, 0, 0.002, 0.02, 0.2])
            hit, said = run_and_kill(workspace, target, wait, delay)
            trained += trainings(said)
            mended.update(re.findall(r"^mended: .*?(dvc\.lock|rwlock|cache|restored)", said, re.M))
            print(f"{number}: {target} after {wait:.1f} s + {delay} s: {'hit' if hit else 'none'}")
            if not hit:
                break  # it ended, as it should
            hits[target] += 1
            lost += sum(1 for line in said.splitlines() if line.startswith("error: "))
            if sum(hits.values()) >= KILLS:
                break
        said = workspace.run(*REPRO)
        trained += trainings(said)
        assert results(workspace) == unbroken
        assert "Data and pipelines are up to date" in workspace.run(*REPRO)
        twice += again(trained)
        shutil.rmtree(workspace.folder.parent)
    print(f"kills: {dict(hits)} in {number} clones; mended: {dict(mended)}; by hand: 0")
    print(f"trained again though finished: {twice}; errors before kills: {lost}")
    assert twice == []


def test_dvc_alone_is_killed(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    """While a training runs, which goes on in the next run and is not trained beside it."""
    workspace = clone(tmp_path / "clone")
    log = tmp_path / "log.txt"
    with log.open("w") as file:
        process = psutil.Popen(
            REPRO,
            cwd=workspace.folder,
            env=workspace.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        while not list(workspace.path("data/checkpoints").glob("*/*/0*.pt")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        (dvc,) = process.children()
        dvc.kill()
        said = workspace.run(*REPRO)
        process.wait()
    assert "error: train: ended, since DVC was" in log.read_text()
    assert results(workspace) == unbroken
    trained = trainings(log.read_text() + said)
    assert sorted(name for name, _ in trained) == sorted({name for name, _ in trained})


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_full_disk(share: float, unbroken: dict[str, bytes], tmp_path: Path) -> None:
    """A disk with room for a share of what the pipeline writes, and later for all of it."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(mebibytes: float, *more: str) -> None:
        options = ",".join([f"size={int(mebibytes * 1024)}k", *more])
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], check=True)

    mount(4096)
    try:
        workspace = clone(disk / "clone")
        empty = shutil.disk_usage(disk).used / 2**20
        mount(empty + share * NEEDED_MIB, "remount")
        said = ""
        for _ in range(2):  # the second finds the disk just as full
            said = workspace.run(*REPRO, fails=True)
            assert "Traceback" not in said, said
            assert re.search("no space left|disk is full", said, re.IGNORECASE), said
        print(f"{share} of {NEEDED_MIB} MiB: {said.splitlines()[-1]}")
        mount(4096, "remount")
        said = workspace.run(*REPRO)
        assert results(workspace) == unbroken
        assert "Data and pipelines are up to date" in workspace.run(*REPRO)
        print(f"took {shutil.disk_usage(disk).used / 2**20 - empty:.0f} MiB in all")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


NEEDED_MIB = 80.0
"""What the pipeline writes."""
