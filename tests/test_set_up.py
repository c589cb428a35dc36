"""`make` sets up .venv from the lock: by uv or pip, by hashes, whole or not at all."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.lock import LOCK, entries

TOOLS = (
    *("uv", "setuptools", "hatchling", "editables"),
    *("packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"),
)
"""What sets up .venv, with all that it depends on."""


class Clone:
    """A clone whose lock holds the tools and a small package, on an index of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(LOCK.parent / name, folder)
        (folder / "src/segbench").mkdir(parents=True)
        self.index = folder / "index/tiny"
        self.index.mkdir(parents=True)
        self.lock = {name: entries()[name] for name in TOOLS}
        self.lock["tiny"] = self.publish("1.0")

    def publish(self, version: str) -> str:
        """Puts a wheel onto the index and returns its lines in a lock."""
        wheel, about = self.index / f"tiny-{version}-py3-none-any.whl", f"tiny-{version}.dist-info"
        files = {
            "tiny.py": "",
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        links = [f'<a href="{path.name}">{path.name}</a>' for path in self.index.glob("*.whl")]
        (self.index / "index.html").write_text("\n".join(links))
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return f"tiny=={version} \\\n    --hash=sha256:{digest}\n"

    def make(self, *, python: str | Path = sys.executable, fails: bool = False) -> str:
        """Sets up .venv as pip is told to by the environment, and returns what is said."""
        (self.folder / "requirements.lock").write_text("".join(self.lock.values()))
        # Not as a part of the `make test` that runs this.
        ours = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        done = subprocess.run(
            ["make", f"PYTHON={python}", ".venv/.ready"],
            cwd=self.folder,
            env=environment | {"PIP_EXTRA_INDEX_URL": self.index.parent.as_uri()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout
        assert (self.folder / ".venv/.ready").exists() != fails
        return done.stdout

    def installed(self) -> tuple[str, str]:
        """The small package's version, and what installed it."""
        (about,) = self.folder.glob(".venv/lib/*/site-packages/tiny-*.dist-info")
        return about.stem.removeprefix("tiny-"), (about / "INSTALLER").read_text().strip()


def wrong(entry: str) -> str:
    """The entry with the hash of some other file."""
    head, _, _ = entry.partition("sha256:")
    return f"{head}sha256:{hashlib.sha256(b'another file').hexdigest()}\n"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.fixture
def _online(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        f"--dest={tmp_path}",
        "editables",
    ]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package index, or an environment without pip")


def test_an_older_python_is_refused_in_one_line(clone: Clone, tmp_path: Path) -> None:
    older = tmp_path / "older"
    pretend = f'exec {sys.executable} -c "import sys; sys.version_info = (3, 10, 14); $2"'
    older.write_text(f"#!/bin/sh\n{pretend}\n")
    older.chmod(0o755)
    said, make = clone.make(python=older, fails=True).splitlines()
    assert said.startswith(f"error: {older} is Python 3.10.14; segbench needs 3.11.4 to 3.13")
    assert make.startswith("make: ***")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("name", ["elsewhere", "else where"])
def test_a_venv_that_was_moved_is_made_anew(clone: Clone, tmp_path: Path, name: str) -> None:
    """It would run the code of where it was."""
    venv = clone.folder / "project/.venv"
    subprocess.run(
        [sys.executable, "-m", "venv", "--clear", "--without-pip", ".venv"],
        cwd=(project := venv.parent, project.mkdir())[0],
        check=True,
    )
    for file in ("Makefile", "pyproject.toml"):
        shutil.copy(clone.folder / file, project)
    (project / "requirements.lock").touch()
    (venv / ".ready").touch()

    def asked(folder: Path) -> str:
        command = ["make", "--dry-run", "--no-print-directory", ".venv/.ready"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout

    assert "up to date" in asked(project)
    moved = shutil.move(project, tmp_path / name)
    said = asked(moved)
    assert f"this .venv was made as {venv}: it is made anew" in said
    assert "false && " in said  # so that what is there is not taken for whole
    (moved / ".venv/pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.8\n")  # made by uv, or conda
    assert "up to date" in asked(moved)


@pytest.mark.slow
@pytest.mark.usefixtures("_online")
def test_uv_installs_what_the_lock_has_a_hash_of(clone: Clone) -> None:
    clone.make()
    assert clone.installed() == ("1.0", "uv")
    assert list(clone.folder.glob(".venv/lib/*/site-packages/__pycache__/tiny.*.pyc"))
    code = "from importlib.metadata import version; version('segbench')"
    subprocess.run([clone.folder / ".venv/bin/python", "-c", code], check=True)

    right = clone.publish("1.1")
    clone.lock["tiny"] = wrong(right)
    said = clone.make(fails=True).splitlines()
    assert said[-2].startswith("error: .venv is not set up, for the reason above")
    assert any("Hash mismatch for `tiny==1.1`" in line for line in said)

    # A uv that is killed leaves such packages, and a second one takes them for whole.
    (module,) = clone.folder.glob(".venv/lib/*/site-packages/tiny.py")
    module.unlink()
    clone.lock["tiny"] = right
    clone.make()
    assert clone.installed() == ("1.1", "uv")
    assert module.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_online")
def test_pip_does_where_uv_is_not_to_be_had(clone: Clone) -> None:
    clone.lock["uv"] = clone.lock["uv"].replace("uv==", "uv==9")
    (said,) = [line for line in clone.make().splitlines() if line.startswith("uv cannot be had")]
    assert "No matching distribution found for uv==9" in said
    assert clone.installed() == ("1.0", "pip")

    clone.lock["tiny"] = wrong(clone.publish("1.1"))
    said = clone.make(fails=True)
    assert "DO NOT MATCH THE HASHES" in said
    assert said.splitlines()[-2].startswith("error: .venv is not set up, for the reason above")


def test_the_environment_of_another_clone_is_left_alone(clone: Clone, tmp_path: Path) -> None:
    """Whether it is up to date or not: it would run this clone's code."""
    other = tmp_path / "other"
    (other / ".venv/bin").mkdir(parents=True)
    (other / "pyproject.toml").write_text("")
    (other / ".venv/.ready").touch()
    (clone.folder / ".venv").symlink_to(other / ".venv")
    before = sorted(other.rglob("*"))
    (clone.folder / "requirements.lock").write_text("")
    for _ in range(2):
        done = subprocess.run(
            ["make", f"PYTHON={sys.executable}", "plan"],
            cwd=clone.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: .venv is a link to that of {other}, which would")
        os.utime(clone.folder / "requirements.lock", (0, 0))
    assert sorted(other.rglob("*")) == before
