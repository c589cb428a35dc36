"""`segbench init`: what becomes of params.yaml."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from segbench import cli
from segbench.errors import InputError
from segbench.params import load_params
from support.layouts import LAYOUTS, image_of, mask_of, put
from support.params import ROOT, read_params


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace's files; the current folder is one of it."""
    folder = tmp_path / "root"
    (folder / "data").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.chdir(folder)
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.command_line(), ["init", *map(str, arguments)])


def test_what_must_fit_is_changed_and_nothing_else(root: Path) -> None:
    """Twelve images of three classes and a published split, with small objects."""
    for start, split in enumerate(("train", "valid", "test")):
        for at in range(4):
            mask = mask_of(10 * start + at, 3, 500, 500)
            for left in range(10, 180, 21):
                mask[300:303, left : left + 3] = 1
            put(root.parent / "x" / split / "images" / f"{at}.jpg", image_of(at, mask))
            put(root.parent / "x" / split / "masks" / f"{at}.png", mask)
    former = (root / "params.yaml").read_text()
    done = call(root.parent / "x")
    assert done.exit_code == 0, done.output
    params = load_params(root / "params.yaml")
    before, after = load_params(ROOT / "params.yaml").model_dump(), params.model_dump()
    changed: dict[str, Any] = {
        f"{section}.{key}": value
        for section, values in after.items()
        if section != "dataset"
        for key, value in values.items()
        if value != before[section][key]
    }
    assert changed == {
        "split.by": "predefined",
        "split.test_share": None,
        "augment.height": 192,
        "augment.width": 192,
        "train.batch_size": 2,
        "train.loss": {"dice": 1.0, "ce": 1.0},
    }
    for key in ("augment.height: 64 -> 192", "train.loss: ce in place of bce"):
        assert key in done.output
    text = (root / "params.yaml").read_text()
    kept = [line for line in former.splitlines() if line.lstrip().startswith("#")]
    header = former[: former.index("\ndataset:")].splitlines()
    assert all(line in text for line in kept if line not in header)
    assert "expected:" not in text  # the header told of the demonstration


def test_the_file_says_what_it_is_unsure_of_in_one_place(root: Path) -> None:
    LAYOUTS["flat"](root / "data" / "cracks")
    done = call("data/cracks")
    text = (root / "params.yaml").read_text()
    block = text[text.index("  # Please check:") : text.index("  name: folder")].splitlines()
    assert block[1].startswith("  # 1. classes: what is class_1?")
    assert block[2].startswith("  # 2. group: ")
    assert "2 questions stand at its top" in done.output
    assert load_params(root / "params.yaml").dataset.source == "data/cracks"  # type: ignore[union-attr]


def test_a_source_is_found_from_another_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LAYOUTS["flat"](root / "data" / "cracks")
    monkeypatch.chdir(root / "data")
    assert call("cracks").exit_code == 0
    assert load_params(root / "params.yaml").dataset.source == "data/cracks"  # type: ignore[union-attr]


def test_printing_changes_nothing(root: Path) -> None:
    LAYOUTS["colours"](root.parent / "x")
    former = (root / "params.yaml").read_text()
    done = call(root.parent / "x", "--print")
    assert done.output.startswith("dataset:\n  # Written by 'segbench init'")
    assert "# train.loss: ce in place of bce" in done.output
    assert (root / "params.yaml").read_text() == former
    assert [path.name for path in root.iterdir() if "params" in path.name] == ["params.yaml"]


def test_a_section_of_ones_own_is_replaced_by_force_only(root: Path) -> None:
    for name in ("flat", "colours"):
        LAYOUTS[name](root.parent / name)
    assert call(root.parent / "colours").exit_code == 0
    own = (root / "params.yaml").read_text().replace("class_1\n", "crack\n")
    (root / "params.yaml").write_text(own)
    refused = call(root.parent / "flat")
    assert isinstance(refused.exception, InputError)
    assert "its section dataset is that of colours; --force replaces it" in str(refused.exception)
    assert (root / "params.yaml").read_text() == own
    for copy in ("params.yaml.bak", "params.yaml.bak2"):
        done = call(root.parent / "flat", "--force")
        assert f"the former file is {copy}" in done.output
        assert "bce" in load_params(root / "params.yaml").train.loss
    assert (root / "params.yaml.bak").read_text() == own


def test_params_that_are_wrong_are_told_before_anything_is_read(root: Path) -> None:
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("num_epochs: 4", "num_epochs: 0"))
    done = call(root.parent / "nowhere")
    assert "train.num_epochs" in str(done.exception)


@pytest.mark.parametrize("name", ["flat", "file_per_class", "published_split"])
def test_twice_the_same(name: str, root: Path) -> None:
    LAYOUTS[name](root.parent / name)
    call(root.parent / name)
    first = (root / "params.yaml").read_text()
    call(root.parent / name, "--force")
    assert (root / "params.yaml").read_text() == first


def test_patches_are_set_for_huge_images(root: Path) -> None:
    for at in range(2):
        mask = np.zeros((1300, 1400), np.uint8)
        mask[100:1200:33, 100:1200:31] = 1
        mask = np.maximum(mask, np.roll(mask, 1, 0)).astype(np.uint8)
        mask = np.maximum.reduce([np.roll(mask, by, 1) for by in range(5)])
        put(root.parent / "x" / "images" / f"{at}.jpg", image_of(at, mask))
        put(root.parent / "x" / "masks" / f"{at}.png", mask * 255)
    assert call(root.parent / "x").exit_code == 0
    augment = load_params(root / "params.yaml").augment
    assert (augment.height, augment.width) == (512, 512)
    assert augment.patches is not None
    assert augment.patches.model_dump() == {"height": 1024, "width": 1024, "overlap": 128}


def test_params_given_in_blocks_are_changed_too(root: Path) -> None:
    from support.params import write_params

    tree = read_params()
    tree["augment"]["patches"] = {"height": 64, "width": 64, "overlap": 8}
    write_params(tree, root / "params.yaml")
    LAYOUTS["colours"](root.parent / "x")
    assert call(root.parent / "x").exit_code == 0
    params = load_params(root / "params.yaml")
    assert params.augment.patches is None
    assert set(params.train.loss) == {"dice", "ce"}
