"""Scores of a class keep its name, and distances the unit of the dataset."""

from pathlib import Path

import pytest
from mlflow.utils.validation import validate_param_and_metric_name

from segbench.datasets.canonical import read_info
from segbench.datasets.download import download
from segbench.evaluation.predict import Truths
from segbench.labels import class_keys
from segbench.metrics.distances import Spacing
from support.own_folder import make_source, own


def test_no_two_classes_have_one_key() -> None:
    assert class_keys(("background", "ひび", "剥離", "鉄筋")) == [
        "background",
        "ひび",
        "剥離",
        "鉄筋",
    ]
    assert class_keys(("background", "a b", "a/b", "a-b")) == [
        "background",
        "a_b_1",
        "a_b_2",
        "a-b",
    ]
    assert class_keys(("?", "!", "#", "é")) == ["__0", "__1", "__2", "é"]
    # Also of a name that looks like one of these.
    assert len(set(class_keys(("x", "a b", "a_b", "a_b_1")))) == 4


def test_mlflow_takes_them_all() -> None:
    for key in class_keys(("背景", "Riß, tief", "ça", "a:b")):
        assert validate_param_and_metric_name(f"test/dice_class_{key}")


@pytest.mark.parametrize("spacing", [None, (0.5, 0.25)])
def test_the_spacing_reaches_what_measures_distances(
    spacing: tuple[float, float] | None, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "own", ["a", "b"])
    download(own(source, spacing=spacing), tmp_path / "out")
    assert read_info(tmp_path / "out").spacing == spacing
    assert Truths(tmp_path / "out").spacing == Spacing(*(spacing or (1, 1)))
