"""A stage's command line is the signature of its function."""

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from segbench import stage
from segbench.params import Params, load_params
from segbench.params.augment import Augment
from segbench.params.datasets import Dataset
from segbench.splits.split import SplitPaths
from support.params import ROOT, STAGES

pytestmark = pytest.mark.filterwarnings("ignore")


def function_of(name: str) -> str:
    """What a stage's script names as its function."""
    (found,) = re.findall(r'stage\.main\("(.+?)"', (ROOT / f"stages/{name}.py").read_text())
    return found


@pytest.mark.parametrize("name", list(STAGES))
def test_dvc_yaml_gives_what_the_function_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, function = function_of(name).partition(":")
    assert re.fullmatch(rf"segbench\.\w+\.{name}", module)
    assert function == name
    target = getattr(import_module(module), function)
    of_axes = {"candidate": "mine", "fold": "0", "seed": "1", "external": "other"}
    item = " ".join(f"--{axis} {of_axes[axis]}" for axis in STAGES[name].get("matrix", ()))
    words = STAGES[name]["cmd"].replace("${item}", item).split()
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", words[1:])
    given = stage.arguments(target)
    assert set(given) == set(inspect.signature(target).parameters)
    for value in given.values():
        assert isinstance(value, Params) or not re.search("RUN|EXTERNAL", str(value))
    assert not any("$" in word for word in words)
    if "--seed" in item:
        assert given["run"] == Path("reports/runs/mine-fold0-seed1.json")
    if name == "evaluate_external":
        assert given["scores"] == Path("reports/metrics/external/other/mine-fold0-seed1.json")
        assert given["arrays"] == Path("data/external/other/arrays")


def test_sections_are_found_by_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(every: Params, data: Dataset, own: Augment, paths: SplitPaths, fold: int) -> str:
        return ""

    flags = ["--split", "a", "--scores", "b", "--page", "c", "--pictures", "d", "--fold", "3"]
    path = ROOT / "params.yaml"
    monkeypatch.setattr(sys, "argv", ["stage", "--params", str(path), *flags])
    params = load_params(path)
    assert stage.arguments(work) == {
        "every": params,
        "data": params.dataset,
        "own": params.augment,
        "paths": SplitPaths(Path("a"), Path("b"), Path("c"), Path("d")),
        "fold": 3,
    }


def test_every_flag_is_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(params: Augment, out_path: Path) -> str:
        return ""

    monkeypatch.setattr(sys, "argv", ["stage", "--params", "params.yaml"])
    with pytest.raises(SystemExit):
        stage.arguments(work)
    assert "the following arguments are required: --out-path" in capsys.readouterr().err
