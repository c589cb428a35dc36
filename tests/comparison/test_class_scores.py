"""Each class has its score and interval by candidate; which is taken for which, in shares."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segbench.comparison.class_scores import (
    confusion_of,
    find_class_scores,
    table_of,
    write_class_scores,
    write_confusion_table,
)
from segbench.evaluation.outputs import write_confusion
from segbench.evaluation.results import RunResult
from segbench.metrics.counts import dice
from support.comparison import evaluated
from support.headers import HEADER, INFO

CLASSES = ("sky", "road", "car", "tram")
RIGHT = (("a", 0.9), ("b", 0.6))
STREETS = replace(HEADER, dataset=replace(INFO, classes=CLASSES, background=None))


def run_of(alias: str, seed: int, right: float) -> RunResult:
    """A run that finds a share of the road and the cars, and all of the sky; of trams are none."""
    run = evaluated(alias, seed, 0.7, 0.7)
    rng = np.random.default_rng(seed)
    number, cells = len(run.images), []
    size = np.tile([900, 300, 0], number)[:number]  # one image of three without a car
    for at, there in enumerate((np.full(number, 2000), np.full(number, 1000), size, 0 * size)):
        share = 1.0 if at == 0 else np.clip(right + rng.normal(0, 0.02, number), 0, 1)
        hits = np.rint(there * share).astype(int)
        wrong = there - hits
        cells.append(np.stack([hits, wrong, wrong, 4096 - 2 * there + hits], axis=1))
    is_test = run.images["split"] == "test"
    return replace(run, counts={"test": np.stack(cells, axis=1)[is_test]})


@pytest.fixture
def runs() -> list[RunResult]:
    return [
        run_of(alias, seed, right) for alias, right in (("a", 0.9), ("b", 0.6)) for seed in (0, 1)
    ]


def test_scores_of_each_class_by_candidate(runs: list[RunResult], tmp_path: Path) -> None:
    scores = find_class_scores(runs, ["a", "b"], STREETS, 0.95)
    assert [(one.name, one.alias) for one in scores] == [
        (name, alias) for name in CLASSES for alias in "ab"
    ]
    for one in scores[2:6]:
        at = CLASSES.index(one.name)
        cells = np.stack([run.counts["test"][:, at] for run in runs if run.alias == one.alias])
        tp, fp, fn, _ = np.moveaxis(cells, 2, 0)
        assert one.images == (tp + fn > 0)[0].sum()
        assert one.dice.mean == pytest.approx(np.nanmean(dice(cells)))
        pooled = tp.sum(axis=1) / (tp + fp + fn).sum(axis=1)
        assert one.iou.mean == pytest.approx(pooled.mean())
        assert one.accuracy.mean == pytest.approx((tp.sum(1) / (tp + fn).sum(1)).mean())
        for value in (one.dice, one.iou, one.accuracy):
            assert 0 < value.low < value.mean < value.high < 1
            assert value.high - value.low < 0.1
    assert scores[0].dice.mean == scores[0].iou.mean == 1
    write_class_scores(scores, tmp_path / "classes.csv")
    table = pd.read_csv(tmp_path / "classes.csv")
    assert table["iou"].to_numpy() == pytest.approx([one.iou.mean for one in scores], nan_ok=True)
    assert table.loc[table["class"] == "tram", "dice_per_image"].isna().all()


def test_a_class_that_test_does_not_hold_is_named(runs: list[RunResult]) -> None:
    table = table_of(find_class_scores(runs, ["a", "b"], STREETS, 0.95))
    assert list(table.scores) == ["sky", "road", "car"]
    assert (table.absent, table.hidden) == (["tram"], 0)


def test_of_many_classes_the_rarest_are_shown(runs: list[RunResult]) -> None:
    one, *_ = find_class_scores(runs, ["a"], STREETS, 0.95)
    many = [replace(one, name=f"class {at}", images=100 - at) for at in range(30)]
    table = table_of(many)
    assert list(table.scores) == [f"class {at}" for at in range(18, 30)]
    assert table.hidden == 18


def test_which_class_is_taken_for_which(runs: list[RunResult], tmp_path: Path) -> None:
    champion, pixels = [], np.array([[8, 2, 0, 0], [1, 3, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0]])
    for run in runs[:2]:
        folder = tmp_path / run.name
        folder.mkdir()
        digest = write_confusion(folder / "confusion.npz", {"test": pixels, "val": pixels})
        sha256 = {**run.summary["sha256"], "confusion": digest}
        champion.append(replace(run, folder=folder, summary={**run.summary, "sha256": sha256}))
    found = confusion_of(champion)
    write_confusion_table(found, STREETS.dataset.classes, tmp_path / "confusion.csv")
    table = pd.read_csv(tmp_path / "confusion.csv").set_index(["truth", "predicted"])
    assert table.loc[("sky", "road"), "pixels"] == 4
    assert table.loc[("sky", "road"), "share"] == 0.2
    assert table.loc[("road", "road"), "share"] == 0.75
    assert table.loc["tram", "share"].isna().all()
