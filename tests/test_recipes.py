"""Recipes: complete, named after themselves, and run in a copy that leaves the workspace alone."""

import re
import shutil
import sqlite3
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from segbench.errors import InputError
from segbench.params import load_params
from segbench.recipes import _bring_up_to_date, about_epochs, run_recipe
from support.params import ROOT
from support.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore")

RECIPES = sorted(ROOT.glob("recipes/*.yaml"))
PUBLISHED = ("cvc-mobilenetv2", "pet-mobilenetv2", "isbi-unet", "flood-vgg19", "hgr1-resnet50")
BEST = ("best-cvc", "best-pet", "best-isbi")


def test_every_system_has_its_recipe() -> None:
    assert {*PUBLISHED, *BEST} <= {path.stem for path in RECIPES}
    for name in PUBLISHED:
        assert load_params(ROOT / f"recipes/{name}.yaml").model.architecture == name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_command_runtime_and_score(path: Path) -> None:
    assert load_params(path).comparison.name == path.stem
    header = path.read_text().split("dataset:")[0]
    assert f"segbench recipe {path.stem}\n" in header
    for said in ("#   command:", "#   runtime:", "#   expected:"):
        assert said in header


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("best-cvd", [], r"no recipe 'best-cvd' \(did you mean best-cvc"),
        ("best-cvc", ["train.epochs=3"], r"has no key 'train.epochs' \(did you mean num_epochs"),
        ("best-cvc", ["trian.num_epochs=3"], r"has no key 'trian.num_epochs'"),
        ("best-cvc", ["split.join_alike=true"], r"is now split.merge_duplicates; rename it"),
        ("best-cvc", ["train.num_epochs=[1"], r"'\[1' is not a value of YAML"),
        (
            "best-cvc",
            ["train.steps_per_epoch"],
            r"'train.steps_per_epoch' sets nothing; write KEY=",
        ),
        ("best-cvc", ["train.num_epochs=0"], r"train.num_epochs: input should be greater than 0"),
    ],
)
def test_mistakes_on_the_command_line(
    name: str, changes: list[str], said: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.folder)
    with pytest.raises(InputError, match=said) as caught:
        run_recipe(name, name, changes)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("recipes") / "clone", ROOT)


def test_epochs_of_a_second_phase_are_told() -> None:
    recipe = load_params(ROOT / "recipes/flood-vgg19.yaml").train
    fewer = recipe.model_copy(update={"num_epochs": 1})
    assert "adds 100 epochs to the 1 of" in about_epochs(fewer, ["train.num_epochs=1"])
    both = ["train.num_epochs=1", "train.fine_tune.num_epochs=1"]
    assert about_epochs(fewer, both) == about_epochs(recipe, []) == ""


def test_a_copy_in_a_workspace_that_was_moved(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied, it would go on reading the datasets of the one that it was copied from."""
    here = Path(shutil.copytree(workspace.folder, tmp_path / "here", symlinks=True))
    (here / "datasets").mkdir()
    (tmp_path / "former/datasets").mkdir(parents=True)
    (here / "runs").mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    copy = Path("runs/mine")
    _bring_up_to_date(copy)
    (copy / "datasets").unlink()
    (copy / "datasets").symlink_to(tmp_path / "former/datasets")
    for left in ("index.lock", "HEAD.lock", "refs/heads/main.lock"):  # of a git that was killed
        (copy / ".git" / left).touch()
    _bring_up_to_date(copy)
    assert (copy / "datasets").resolve() == here / "datasets"
    text = (copy / ".dvc/config.local").read_text()
    assert (copy / ".dvc" / text.partition("dir = ")[2].strip()).resolve() == here / ".dvc/cache"


def make_flood(folder: Path, count: int) -> None:
    """Photographs and masks in the layout of Flood Area: water is blue, below a wavy line."""
    rng = np.random.default_rng(0)
    for name in ("Image", "Mask"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        height, width = rng.integers(96, 160, 2)
        line = height * rng.uniform(0.3, 0.7) + 10 * np.sin(np.arange(width) / rng.uniform(5, 20))
        water = np.arange(height)[:, None] > line
        colours = np.where(water[..., None], rng.integers(90, 130, 3), rng.integers(130, 220, 3))
        colours[..., 0][water] = 200  # OpenCV writes BGR
        image = np.clip(colours + rng.normal(0, 15, colours.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "Image" / f"{number}.jpg"), image)
        cv2.imwrite(str(folder / "Mask" / f"{number}.png"), np.uint8(255) * water)


def make_hgr1(folder: Path, people: int, gestures: int) -> None:
    """Images and masks in the layout of HGR1: hands are 0 in the mask, on 255."""
    rng = np.random.default_rng(0)
    for name in ("original_images", "skin_masks"):
        (folder / name).mkdir(parents=True)
    for person in range(people):
        for gesture in range(gestures):
            size = (rng.integers(100, 180), rng.integers(130, 200))
            hand = np.zeros(size, np.uint8)
            centre = (int(size[1] * rng.uniform(0.3, 0.7)), int(size[0] * rng.uniform(0.3, 0.7)))
            cv2.ellipse(hand, centre, (30, 45), float(rng.uniform(0, 180)), 0, 360, 1, -1)
            # A room, without which nothing tells one image from another.
            room = cv2.resize(rng.uniform(20, 120, (12, 15, 3)), size[::-1])
            colours = np.where(hand[..., None] == 1, [130, 160, 220], room)
            image = np.clip(colours + rng.normal(0, 15, colours.shape), 0, 255).astype(np.uint8)
            name = f"{gesture + 1}_P_hgr1_id{person + 1:02}_1"
            cv2.imwrite(str(folder / "original_images" / f"{name}.jpg"), image)
            cv2.imwrite(str(folder / "skin_masks" / f"{name}.bmp"), np.uint8(255) * (1 - hand))


def run(workspace: Workspace, name: str, *changes: str) -> str:
    return workspace.run(sys.executable, "-m", "segbench", "recipe", name, *changes)


@pytest.mark.slow
def test_a_recipe_runs_beside_the_workspace(workspace: Workspace) -> None:
    """Params, lock file, reports and what is not committed stay; runs stand in the same MLflow."""
    make_flood(workspace.path("datasets/flood-area"), 24)
    workspace.path("notes.txt").write_text("mine\n")
    workspace.path("src/segbench/extra.py").write_text("# mine\n")
    before = workspace.run("git", "status", "--porcelain")
    head = workspace.run("git", "rev-parse", "HEAD")
    params = workspace.path("params.yaml").read_text()
    phases = ("train.num_epochs=3", "train.fine_tune.num_epochs=2", "train.batch_size=4")
    rates = ("train.optimizer.learning_rate=1e-3", "augment.height=64", "augment.width=64")
    said = run(workspace, "flood-vgg19", *phases, *rates, "candidates.vgg19.weights=random")
    assert workspace.run("git", "status", "--porcelain") == before
    assert workspace.run("git", "rev-parse", "HEAD") == head
    assert workspace.path("params.yaml").read_text() == params
    assert not workspace.path("dvc.lock").exists()

    copy = workspace.path("runs/flood-vgg19")
    assert "runs/flood-vgg19/reports/comparison.html" in said
    report = (copy / "reports/comparison.html").read_text()
    assert "flood-vgg19: 1 candidate on flood-area" in report
    assert re.search(r"<h1>vgg19 reaches dice \d\.\d{3}</h1>", report)
    assert (
        'href="flood-vgg19/reports/comparison.html"'
        in workspace.path("runs/index.html").read_text()
    )
    (progress,) = re.findall(r'href="\.\./([^"]*progress\.gif)"', report)
    assert (copy / progress).exists()
    assert not (copy / "notes.txt").exists()  # what is no code stays here
    assert (copy / "src/segbench/extra.py").read_text() == "# mine\n"

    history = pd.read_csv(copy / "reports/history/vgg19-fold0-seed0.csv")
    assert list(history["learning_rate"]) == [1e-3] * 3 + [1e-5] * 2
    with sqlite3.connect(workspace.path("mlflow.db")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM runs")}
        places = dict(database.execute("SELECT name, artifact_location FROM experiments"))
    assert names == {"vgg19-fold0-seed0", "flood-vgg19: vgg19 alone"}
    assert places["flood-area"] == workspace.path("mlruns").as_uri()
    models = list(workspace.path("mlruns").rglob("model.pt2"))
    assert len(models) == 1
    assert not (copy / "mlruns").exists()

    kept = workspace.run("git", "show", "refs/recipes/flood-vgg19:params.yaml")
    assert "name: flood-vgg19" in kept
    assert "num_epochs: 3" in kept
    # Again: nothing to do.
    again = run(workspace, "flood-vgg19", *phases, *rates, "candidates.vgg19.weights=random")
    assert "Running stage" not in again
    # Other params, as jobs.
    others = ("train.num_epochs=1", "train.fine_tune=null", "--jobs", "1")
    said = run(workspace, "flood-vgg19", *others, *rates, "candidates.vgg19.weights=random")
    assert "1 job at a time" in said
    assert len(pd.read_csv(copy / "reports/history/vgg19-fold0-seed0.csv")) == 1


@pytest.mark.parametrize("alias", ["..", ".", "a/b", "x.lock", ".x", "-x", ""])
def test_names_that_are_none(
    alias: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.folder)
    with pytest.raises(InputError, match="cannot name a run; use up to 64 letters"):
        run_recipe("best-cvc", alias, [])
    assert (workspace.folder / "src").is_dir()


def test_a_folder_that_is_no_copy_is_left_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.folder)
    mine = workspace.path("runs/mine")
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"runs/mine: not the copy of a recipe; move it away"):
        run_recipe("best-cvc", "mine", [])
    assert (mine / "thesis.txt").exists()


def test_a_copy_is_used_by_one_at_a_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.folder)
    workspace.path("runs").mkdir(exist_ok=True)
    with (
        FileLock(workspace.path("runs/.busy.lock")),
        pytest.raises(InputError, match="busy is running already; wait for it"),
    ):
        run_recipe("best-cvc", "busy", [])


@pytest.mark.slow
def test_a_recipe_that_fails_says_what_to_do(workspace: Workspace) -> None:
    command = (sys.executable, "-m", "segbench", "recipe", "isbi-unet", "train.num_epochs=1")
    said = workspace.run(*command, fails=True)
    assert "datasets/isbi-2012" in said
    last = said.strip().splitlines()[-1]
    assert last.startswith(
        "error: a stage or DVC failed, see above; mend the cause and run the same"
    )
    assert last.endswith("runs/isbi-unet)")


LEARN = {
    "flood-vgg19": ("train.optimizer.learning_rate=5e-4", "candidates.vgg19.weights=random"),
    "hgr1-resnet50": ("candidates.resnet50.weights=random",),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARN)
def test_published_systems_learn_on_data_in_their_own_format(
    workspace: Workspace, name: str
) -> None:
    """The recipe as it is, but smaller, from scratch, in both phases where there are two."""
    if name == "flood-vgg19" and not workspace.path("datasets/flood-area").exists():
        make_flood(workspace.path("datasets/flood-area"), 24)
    if name == "hgr1-resnet50":
        make_hgr1(workspace.path("datasets/hgr1"), 12, 4)
    small = ("augment.height=64", "augment.width=64", "train.batch_size=8", "train.num_epochs=8")
    phases = ("train.fine_tune.num_epochs=4",) if name == "flood-vgg19" else ()
    run(workspace, name, "--as", "learns", *small, *phases, *LEARN[name])
    (path,) = workspace.path("runs/learns/reports/history").glob("*.csv")
    history = pd.read_csv(path)
    assert len(history) == 8 + (4 if phases else 0)
    assert history["train_loss"][:3].mean() > history["train_loss"][5:8].mean()
    if phases:
        assert history["train_loss"][8:].mean() < history["train_loss"][:3].mean()
