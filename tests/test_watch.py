"""Files of a dataset that change after they were read are noticed, and read again."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segbench.doctor.outside import check_weights
from segbench.errors import InputError
from segbench.params import Params
from segbench.planning.stages import stages_to_run
from segbench.watch import look_at_source
from segbench.workspace import run_pipeline
from support.own_folder import make_source, own
from support.params import write_params
from test_recovery import run

PIPELINE = """\
stages:
  download:
    cmd: python make.py download data/dataset
    params: [dataset]
    deps: [make.py]
    outs: [data/dataset]
  split:
    cmd: python make.py split data/split data/dataset
    deps: [make.py, data/dataset]
    outs: [data/split]
"""
# Reads what stands in the files, as a download does: not how they are called, sized or dated.
MAKE = """\
import sys
from pathlib import Path
name, out, *dataset = sys.argv[1:]
with open("ran.txt", "a") as file:
    print(name, file=file)
files = sorted(path for path in Path(*dataset or ["source"]).rglob("*") if path.is_file())
if any(path.name == "torn.png" for path in files):
    sys.exit("error: torn.png is unreadable")
Path(out).parent.mkdir(exist_ok=True)
Path(out).write_bytes(b"".join(path.read_bytes().strip() for path in files))
"""

pytestmark = pytest.mark.filterwarnings("ignore")  # of DVC in this process
Repro = Callable[..., tuple[list[str], str]]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clone") / "clone"
    make_source(root / "source", "ab")
    (root / "source/groups.csv").write_text("id,group\na,1\nb,2\n")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "make.py").write_text(MAKE)
    run(root, "git", "init", "--quiet")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    return root


@pytest.fixture
def root(empty: Path, tmp_path: Path) -> Path:
    return shutil.copytree(empty, tmp_path / "clone", symlinks=True)


@pytest.fixture
def repro(root: Path, tree: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> Repro:
    """Runs the pipeline: which stages ran, and what was said of the source."""

    def call(
        *arguments: str, at: Path = root, fails: bool = False, **changes: Any
    ) -> tuple[list[str], str]:
        tree["dataset"] = own(Path("source"), **changes).model_dump()
        write_params(tree, at / "params.yaml")
        (at / "ran.txt").unlink(missing_ok=True)
        capfd.readouterr()
        try:
            run_pipeline(at, Params.model_validate(tree), *arguments)
            assert not fails
        except InputError:
            assert fails
        said = [line for line in capfd.readouterr().err.splitlines() if "dataset.source" in line]
        assert len(said) <= 1
        ran = (at / "ran.txt").read_text().split() if (at / "ran.txt").exists() else []
        return ran, "".join(said).removeprefix("dataset.source: ")

    return call


ALL = ["download", "split"]
AGAIN = "since it was read; download runs again"


def test_changes_in_place_are_noticed(root: Path, repro: Repro) -> None:
    mask = root / "source/masks/a_mask.png"
    assert repro() == (ALL, "")
    assert repro() == ([], "")
    mask.write_bytes(mask.read_bytes()[::-1])  # as long as before
    (root / "source/images/c.png").write_bytes(b"new")
    (root / "source/images/b.png").unlink()
    said = "1 file changed (masks/a_mask.png), 1 file added (images/c.png), "
    said += f"1 file removed (images/b.png) {AGAIN}"
    assert repro("--dry") == ([], said)
    assert repro() == (ALL, said)
    assert repro() == ([], "")
    (root / "source/groups.csv").write_text("id,group\na,1\nb,1\n")
    assert repro() == (ALL, f"1 file changed (groups.csv) {AGAIN}")
    assert repro() == ([], "")


def test_files_that_only_look_new_run_nothing_else(
    root: Path, repro: Repro, monkeypatch: pytest.MonkeyPatch
) -> None:
    repro()
    for path in sorted((root / "source/masks").iterdir()):
        os.utime(path, ns=(0, 0))
    monkeypatch.chdir(root)
    assert stages_to_run().stages == []
    assert [stage.name for stage in stages_to_run({"download"}).stages] == ALL
    said = f"2 files changed (masks/a_mask.png ...) {AGAIN}"
    assert repro() == (["download"], said)
    assert repro() == ([], "")


def test_a_clone_of_other_times_runs_nothing(root: Path, repro: Repro, tmp_path: Path) -> None:
    repro()
    clone = shutil.copytree(root, tmp_path / "pulled", symlinks=True)
    shutil.rmtree(clone / ".dvc/tmp")
    for path in (clone / "source").rglob("*.png"):
        os.utime(path, ns=(0, 0))
    ran, said = repro(at=clone)
    assert ran == []
    assert said.startswith("5 files are watched from now on; whether another clone read the same")
    assert repro(at=clone) == ([], "")
    (clone / "source/images/a.png").write_bytes(b"mended")
    assert repro(at=clone) == (ALL, f"1 file changed (images/a.png) {AGAIN}")
    shutil.rmtree(clone / "source")  # results that were pulled need no source
    ran, said = repro(at=clone)
    assert ran == []
    assert said == f"nothing at {clone / 'source'}, so that no change of it is noticed"


def test_what_could_not_be_read_is_read_again(root: Path, repro: Repro) -> None:
    """Though DVC's cache of runs holds a dataset that was made by the same params."""
    repro()
    (root / "source/torn.png").write_bytes(b"torn")
    said = f"1 file added (torn.png) {AGAIN}"
    assert repro(fails=True) == (["download"], said)
    assert repro(fails=True) == (["download"], said)
    (root / "source/torn.png").rename(root / "source/whole.png")
    assert repro() == (ALL, f"1 file added (whole.png) {AGAIN}")


def test_a_shared_cache_is_not_taken_for_the_files(root: Path, repro: Repro) -> None:
    repro()
    before = (root / "data/dataset").read_bytes()
    (root / "dvc.lock").unlink()  # as in the fresh copy of a recipe
    shutil.rmtree(root / ".dvc/tmp")
    (root / "source/images/a.png").write_bytes(b"mended")
    assert repro() == (ALL, "")
    assert (root / "data/dataset").read_bytes() != before


@pytest.mark.slow
def test_another_branch_knows_its_own_files(root: Path, repro: Repro) -> None:
    repro()
    lock = (root / "dvc.lock").read_text()
    (root / "source/images/a.png").write_bytes(b"mended")
    repro()
    (root / "dvc.lock").write_text(lock)  # of a commit before the file was mended
    assert repro()[1] == f"1 file changed (images/a.png) {AGAIN}"


@pytest.mark.slow
def test_stages_that_run_alone_read_nothing(root: Path, repro: Repro) -> None:
    repro()
    (root / "source/images/a.png").write_bytes(b"mended")
    assert repro("--single-item", "split") == ([], "")
    assert repro("--single-item", "download")[0] == ["download"]
    (root / "source/images/a.png").write_bytes(b"again")
    assert repro("--force", "--single-item", "download")[0] == ["download"]
    assert repro() == (["split"], "")
    (root / "make.py").write_text(MAKE.replace("strip()", "upper()"))  # makes another dataset
    assert repro() == (ALL, "")
    assert repro() == ([], "")


def test_files_of_an_external_set_are_watched_too(
    root: Path, repro: Repro, tree: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where it is the same folder as the dataset's: each stage reads it for itself."""
    text = (
        PIPELINE
        + """\
  download_external:
    matrix: {external: "${comparison.external}"}
    cmd: python make.py download_external data/${item.external}
    params: ["comparison.external.${item.external}"]
    deps: [make.py]
    outs: ["data/${item.external}"]
"""
    )
    (root / "dvc.yaml").write_text(text)
    section = own(Path("source"), classes=["background", "polyp"]).model_dump()
    tree["dataset"] = section
    tree["comparison"]["external"] = {"clinic": section}

    def call(*arguments: str) -> tuple[list[str], list[str]]:
        write_params(tree, root / "params.yaml")
        (root / "ran.txt").unlink(missing_ok=True)
        capfd.readouterr()
        run_pipeline(root, Params.model_validate(tree), *arguments)
        said = [line for line in capfd.readouterr().err.splitlines() if ".source: " in line]
        ran = (root / "ran.txt").read_text().split() if (root / "ran.txt").exists() else []
        return ran, said

    ran, said = call()
    assert (sorted(ran), said) == (["download", "download_external", "split"], [])
    assert call() == ([], [])
    (root / "source/images/a.png").write_bytes(b"new")
    changed = "source: 1 file changed (images/a.png) since it was read;"
    assert call("--single-item", "download_external") == (
        ["download_external"],
        [f"comparison.external.clinic.{changed} download_external@clinic runs again"],
    )
    assert call() == (
        ["download", "split"],
        [f"dataset.{changed} download runs again"],
    )
    assert call() == ([], [])


def test_a_source_that_is_not_watched(root: Path, repro: Repro) -> None:
    assert repro(watch=False) == (ALL, "")
    (root / "source/images/a.png").write_bytes(b"mended")
    assert repro(watch=False) == ([], "")


def test_what_is_listed(root: Path, tmp_path: Path) -> None:
    """An archive is one file; a table elsewhere counts; hidden files and links back do not."""
    source = root / "source"
    (source / ".hidden").write_text("")
    (source / "images/deep").mkdir()
    (source / "images/deep/d.png").write_text("d")
    (source / "images/back").symlink_to(source)
    (source / "gone.png").symlink_to(source / "nowhere")
    table = tmp_path / "strata.csv"
    table.write_text("id,site\n")
    labels = {"table": str(table), "id": "id", "column": "site"}
    found = look_at_source(root, own(source, stratum=labels)).files
    assert found is not None
    pairs = {f"images/{id}.png" for id in "ab"} | {f"masks/{id}_mask.png" for id in "ab"}
    others = {"groups.csv", "gone.png", "images/deep/d.png", str(table)}
    assert found.keys() == pairs | others
    assert found[str(table)] == (8, table.stat().st_mtime_ns)
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", source))
    found = look_at_source(root, own(archive)).files
    assert found == {"packed.zip": (archive.stat().st_size, archive.stat().st_mtime_ns)}


@pytest.mark.parametrize("lost", ["missing", "another"])
def test_weights_that_cannot_be_had_are_told_before_anything_runs(
    lost: str, root: Path, tree: dict[str, Any]
) -> None:
    """But where every training is done, nobody asks for them."""
    tree["dataset"] = own(Path("source")).model_dump()
    for alias in tree["comparison"]["candidates"]:
        tree["candidates"][alias].update(weights="encoder.pth", weights_sha256="0" * 64)
    if lost == "another":
        (root / "encoder.pth").write_bytes(b"other")
    write_params(tree, root / "params.yaml")
    params = Params.model_validate(tree)
    said = {"missing": "no such file", "another": "not of weights_sha256"}
    with pytest.raises(InputError, match=f"candidates.*weights: .*{said[lost]}"):
        check_weights(root, params)
    with pytest.raises(InputError, match=said[lost]):
        run_pipeline(root, params)
    assert not (root / "ran.txt").exists()
    stages = "".join(f"  train@{key.item}:\n    cmd: x\n" for key in params.comparison.runs)
    (root / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n{stages}")
    check_weights(root, params)
