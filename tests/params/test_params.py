"""params.yaml is the only source of choices, and says everything that is wrong with it at once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segbench.errors import InputError
from segbench.params import Params, Section, load_params
from support.params import ROOT, problems, read_params, write_params


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted(ROOT.glob("recipes/*.yaml"))])
def test_committed_params_are_valid(path: Path) -> None:
    load_params(path)


def test_no_choice_has_a_default_in_python() -> None:
    for section in Section.__subclasses__():
        for name, field in section.model_fields.items():
            assert field.is_required(), f"{section.__name__}.{name} has a default"


def test_all_problems_are_said_at_once(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["train"]["num_epoch"] = tree["train"].pop("num_epochs")
    tree["evaluate"]["threshold"] = 1.5
    tree["reprot"] = tree.pop("report")
    said = problems(tree, tmp_path)
    assert "train.num_epoch: unknown key (did you mean num_epochs" in said
    assert "train.num_epochs: field required" in said
    assert "evaluate.threshold: input should be less than or equal to 1 (got 1.5)" in said
    assert "reprot: unknown key (did you mean report, " in said


def test_alias_without_definition(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["comparison"]["candidates"].append("resnet81")
    said = problems(tree, tmp_path)
    assert "'resnet81' has no definition; add candidates.resnet81" in said
    assert "did you mean resnet18" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "a.safetensors"}, "needs its weights_sha256"),
        ({"weights_sha256": "0" * 64}, "takes no sha256"),
        ({"weights": "resnet.onnx"}, "must be none, imagenet or a .safetensors / .pth file"),
    ],
)
def test_weights_and_hash_go_together(
    change: dict[str, str], said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["candidates"]["resnet18"].update(change)
    assert said in problems(tree, tmp_path)


def test_numbers_are_what_dvc_reads(tmp_path: Path) -> None:
    """To PyYAML 1e-3 is a string; DVC's parser and ours agree on a number."""
    from dvc.utils.serialize import load_yaml

    text = (ROOT / "params.yaml").read_text().replace("learning_rate: 3e-3", "learning_rate: 1e-3")
    path = tmp_path / "params.yaml"
    path.write_text(text)
    ours = load_params(path).train.optimizer.learning_rate
    assert ours == load_yaml(str(path))["train"]["optimizer"]["learning_rate"] == 0.001


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + "\nsplit: {}\n")
    with pytest.raises(InputError, match=r"line \d+: not valid YAML, found duplicate key"):
        load_params(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: \x07", b"a: [1\n", b"", b"- 1"])
def test_a_file_that_is_no_params(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_the_check_of_make_prints_one_line(tmp_path: Path) -> None:
    tree = read_params()
    tree["split"]["val_share"] = 0.95
    write_params(tree, tmp_path / "params.yaml")
    command = [sys.executable, "-m", "segbench.params", str(tmp_path / "params.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "split: val_share 0.95 and a test share of 0.1 leave nothing to train on" in done.stderr


def test_params_are_frozen(params: Params) -> None:
    with pytest.raises(ValueError, match="frozen"):
        params.train.num_epochs = 3  # type: ignore[misc]


def test_an_optional_metric_that_does_not_exist(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["evaluate"]["extra_metrics"] = ["calibration", "v_rant"]
    assert "extra_metrics: no metric 'v_rant' (did you mean v_rand" in problems(tree, tmp_path)
