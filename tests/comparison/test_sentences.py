"""Sentences beside the report's tables, by hand."""

import numpy as np

from segbench.comparison.class_scores import ClassScore
from segbench.comparison.filters import in_words
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.words import classes_said, confusions_said, other_firsts
from segbench.report.words import listed


def scored(alias: str, name: str, mean: float) -> ClassScore:
    one = Interval(mean, mean, mean)
    return ClassScore(alias, name, 5, one, one, one)


def test_worst_and_best_class() -> None:
    means = {"sky": 0.9, "road": 0.8, "pole": 0.1, "car": np.nan, "sign": 0.0}
    scores = [scored("a", name, mean) for name, mean in means.items()] + [scored("b", "sky", 0.0)]
    said = "a does worst on sign (0.000), pole (0.100) and road (0.800), best on sky (0.900)."
    assert classes_said("a", scores) == said
    assert classes_said("a", scores[:2]) == "a does worst on road (0.800), best on sky (0.900)."
    assert classes_said("b", scores) == ""


def test_classes_that_are_taken_for_others() -> None:
    shares = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [np.nan] * 3])
    assert confusions_said(shares, ["sky", "pole", "car"]) == (
        "Most often it takes pole for sky (60 % of its pixels) and sky for pole (10 %)."
    )
    assert confusions_said(np.eye(2), ["sky", "pole"]) == ""


def test_whether_other_metrics_agree() -> None:
    columns = {"dice": "dice", "iou": "IoU", "recall": "recall"}
    agree = {"dice": [1, 2], "iou": [1, 1], "recall": [None, None]}
    assert other_firsts(["a", "b"], agree, columns) == "a has the best mean by all 2 metrics."
    ranked = {"dice": [1, 2], "iou": [2, 1], "recall": [2, 1]}
    assert other_firsts(["a", "b"], ranked, columns) == (
        "a has the best mean by 1 of 3 metrics; b by IoU and b by recall."
    )


def test_names_of_metrics() -> None:
    names = [in_words(name) for name in ("iou", "boundary_iou", "hausdorff95", "surface_dice")]
    assert names == ["IoU", "boundary IoU", "Hausdorff 95", "surface dice"]


def test_lists() -> None:
    parts = ["a", "b", "c"]
    assert [listed(parts[:at]) for at in range(4)] == ["", "a", "a and b", "a, b and c"]
