"""A published row that cannot be read is named, with what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest

from segbench.params import load_params
from support.params import ROOT, problems, write_params

ROW: dict[str, Any] = {
    **{"name": "U-Net", "metric": "dice", "averaging": "per_image", "mean": 0.9, "sd": 0.1},
    **{"images": 61, "num_classes": 2, "split": "random", "source": "a paper"},
}


def test_rows_are_read(tree: dict[str, Any], tmp_path: Path) -> None:
    other = {"averaging": "pooled", "sd": None}
    tree["comparison"]["published"] = [ROW, {**ROW, **other}, {**ROW, **other, "name": "V\n"}]
    write_params(tree, tmp_path / "params.yaml")
    rows = load_params(tmp_path / "params.yaml").comparison.published
    assert [(row.name, row.mean) for row in rows] == [("U-Net", 0.9), ("U-Net", 0.9), ("V", 0.9)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": 94.8}, "94.8 is not from 0 to 1; divide per cent by 100"),
        ({"mean": -0.1}, "-0.1 is not from 0 to 1"),
        ({"mean": "high"}, "mean: input should be a valid number"),
        ({"mean": float("nan")}, "mean: input should be a finite number"),
        ({"images": 0}, "images: input should be greater than 0 (got 0)"),
        ({"images": 6.5}, "images: input should be a valid integer"),
        ({"averaging": "micro"}, "averaging: input should be 'per_image', 'pooled' or 'batch'"),
        ({"split": "sequences"}, "split: input should be 'random', 'group', 'predefined' or 'unkn"),
        ({"sd": 0}, "sd: input should be greater than 0"),
        ({"sd": 10.2}, "sd: 10.2 is more than the 0.302 that 61 scores from 0 to 1 with a mean of"),
        (
            {"averaging": "pooled"},
            "sd: single images have none in a score that is pooled; set null",
        ),
        ({"num_classes": 1}, "num_classes: input should be greater than or equal to 2"),
        ({"name": " "}, "name: string should have at least 1 character"),
        ({"dice": 0.9}, "published.1.dice: unknown key"),
        ({"source": ...}, "published.1.source: field required"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(
    changes: dict[str, Any], said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    row = {key: value for key, value in {**ROW, **changes}.items() if value is not ...}
    tree["comparison"]["published"] = [{**ROW, "name": "the first"}, row]
    found = problems(tree, tmp_path)
    assert "comparison.published.1" in found
    assert said in found


def test_a_score_is_published_once(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["comparison"]["published"] = [ROW, {**ROW, "metric": "iou"}, {**ROW, "mean": 0.8}]
    assert (
        "comparison: published.2: 'U-Net' has its dice (per_image) in published.0 already; remove "
        "one, or name both differently"
    ) in problems(tree, tmp_path)


def test_published_systems_stand_beside_their_recipes() -> None:
    found = {
        path.stem: [(row.metric, row.averaging, row.mean) for row in rows]
        for path in (ROOT / "recipes").glob("*.yaml")
        if (rows := load_params(path).comparison.published)
    }
    assert found["cvc-mobilenetv2"] == [
        *(("dice", "batch", 0.7656), ("recall", "pooled", 0.7618), ("precision", "pooled", 0.8595)),
    ]
    assert found["pet-mobilenetv2"] == [("accuracy", "pooled", 0.9024)]
    assert ("dice", "pooled", 0.9478) in found["best-cvc"]
