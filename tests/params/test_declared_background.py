"""What is background is said in params.yaml, and everything that needs one says so."""

from pathlib import Path
from typing import Any

import pytest

from segbench.datasets.sources.folder import info
from segbench.labels import LabelScheme
from segbench.params import Params
from support.own_folder import own
from support.params import problems

STREETS = {"classes": ["sky", "road", "car"], "mask": {"values": {0: 0, 1: 1, 2: 2}}}
OBJECTS = {"classes": ["background", "crack", "rust"], "masks": "masks/{class}/{id}.png"}


def section(**changes: Any) -> dict[str, Any]:
    """A section `dataset` of three classes, as it is written."""
    return own(Path("source"), **{**STREETS, "background": 0}).model_dump(mode="json") | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"background": 3},
            "dataset: background: 3 is none of the class ids 0 to 2; set one of them, or null if "
            "every class counts",
        ),
        (
            {"classes": ["crack", "wall"], "mask": {"values": {0: 0, 1: 1}}, "background": 1},
            "background: of two classes it is 0; list it first in classes",
        ),
        (
            {**OBJECTS, "mask": {"values": {0: 0, 1: 1}}, "background": None},
            "background: null, but what no file marks as an object becomes class 0; set 0",
        ),
        ({"mask": {"instances": "any"}, "background": 2}, "background: 2, but what no file marks"),
        (
            {"background": None, "foreground": [0.1, 0.2]},
            "foreground: [0.1, 0.2] is of all pixels where background is null; set foreground: "
            "null",
        ),
    ],
)
def test_a_background_that_cannot_be(
    changes: dict[str, Any], said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["dataset"] = section(**changes)
    tree["train"]["loss"] = {"dice": 1.0}
    assert said in problems(tree, tmp_path)


def test_several_classes_must_say_it(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["dataset"] = section()
    del tree["dataset"]["background"]
    tree["train"]["loss"] = {"dice": 1.0}
    assert (
        "dataset: background: missing, and there are 3 classes; set the id of the one that has no "
        "score (0 for 'sky'), or null if every class counts" in problems(tree, tmp_path)
    )


def test_of_two_classes_and_of_marked_objects_it_is_the_first() -> None:
    assert own(Path("source")).scheme == LabelScheme(2, 0)
    assert own(Path("source"), **OBJECTS).scheme == LabelScheme(3, 0)
    parts = own(Path("source"), **STREETS, masks="masks/{id}/{part}.png")
    assert parts.scheme == LabelScheme(3, 0)


def test_what_removes_components_needs_a_background(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["dataset"] = section(background=None)
    tree["train"]["loss"] = {"dice": 1.0, "ce": 1.0}
    tree["evaluate"]["choose"].update(min_sizes=[20], largest=False)
    said = problems(tree, tmp_path)
    assert "evaluate.choose: min_sizes and largest turn components into background, and " in said
    tree["evaluate"]["choose"].update(min_sizes=[], largest=False)
    assert Params.model_validate(tree).dataset.scheme == LabelScheme(3, None)


def test_two_classes_without_background_are_several(tree: dict[str, Any], tmp_path: Path) -> None:
    changes = {"classes": ["land", "water"], "mask": {"values": {0: 0, 1: 1}}}
    tree["dataset"] = section(**changes, background=None)
    tree["train"]["loss"] = {"bce": 1.0}
    assert "train.loss: bce is for one foreground class, the dataset has 2" in problems(
        tree, tmp_path
    )
    tree["train"]["loss"] = {"ce": 1.0}
    assert info(Params.model_validate(tree).dataset).scheme.num_outputs == 2  # type: ignore[arg-type]


def test_a_share_of_foreground_is_expected_where_it_means_something() -> None:
    """Of several classes, most pixels may well be of one that is no background."""
    assert info(own(Path("source"))).foreground == (0, 0.5)
    assert info(own(Path("source"), **STREETS, background=1)).foreground == (0, 1)
    asked = own(Path("source"), **STREETS, background=1, foreground=[0.1, 0.2])
    assert info(asked).foreground == (0.1, 0.2)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("dice_class_cra", "no class with a score is called 'cra' (did you mean car?); take from "),
        ("dice_class_road", "take from dice_class_sky, dice_class_car"),
        ("jaccard", "comparison.metric: no metric 'jaccard' is reported"),
    ],
)
def test_a_class_that_cannot_rank(
    metric: str, said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["dataset"] = section(background=1)
    tree["train"]["loss"] = {"dice": 1.0}
    tree["comparison"]["metric"] = metric
    assert said in problems(tree, tmp_path)
    for right in ("mean_iou", "dice_class_car", "dice"):
        tree["comparison"]["metric"] = right
        Params.model_validate(tree)


def test_one_class_is_ranked_by_its_dice(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["comparison"]["metric"] = "mean_iou"
    assert "comparison.metric: mean_iou needs several classes with a score" in problems(
        tree, tmp_path
    )
