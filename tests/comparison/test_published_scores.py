"""Published scores stand beside ours where they mean the same, and say why where they do not."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segbench.comparison.leaderboard import Leaderboard, make_leaderboard
from segbench.comparison.published import (
    PublishedRow,
    chance_text,
    judge_published,
    measure,
    split_difference,
)
from segbench.errors import InputError
from segbench.evaluation.outputs import write_images, write_soft
from segbench.evaluation.results import RunResult
from segbench.labels import LabelScheme
from segbench.metrics.counts import FN, TN, TP, dice, summarise
from segbench.metrics.on_device import soft_dice_batch
from segbench.params import Params
from segbench.params.published import PublishedScore
from support.comparison import evaluated

BINARY = LabelScheme(2, 0)
ROW: dict[str, Any] = {
    **{"name": "U-Net", "metric": "dice", "averaging": "per_image", "mean": 0.7, "sd": None},
    **{"images": 60, "num_classes": 2, "split": "group", "source": "a paper"},
}


def published(params: Params, **changes: Any) -> Params:
    rows = [PublishedScore.model_validate({**ROW, **changes})]
    chosen = params.comparison.model_copy(update={"published": rows})
    return params.model_copy(update={"comparison": chosen})


def audit(groups_torn: int = 0, folds: int = 1) -> dict[str, Any]:
    return {f"fold{fold}": {"leaks": {"groups": groups_torn}} for fold in range(folds)}


@pytest.fixture
def runs(params: Params) -> list[RunResult]:
    """Three seeds of two candidates, of which the first leads."""
    return [
        evaluated(alias, seed, 0.9 - at / 10, 0.8 - at / 10)
        for at, alias in enumerate(params.comparison.candidates)
        for seed in range(3)
    ]


@pytest.fixture
def board(params: Params, runs: list[RunResult]) -> Leaderboard:
    return make_leaderboard(params, runs)


def judged(
    params: Params, runs: list[RunResult], board: Leaderboard, torn: int = 0, **changes: Any
) -> PublishedRow:
    (row,) = judge_published(
        published(params, **changes), LabelScheme(2, 0), audit(torn), runs, board
    )
    return row


def test_a_mean_over_images_stands_beside_that_of_the_leaderboard(
    params: Params, runs: list[RunResult], board: Leaderboard
) -> None:
    row = judged(params, runs, board)
    assert row.ours == board.rows[0].test
    assert row.versus is not None
    assert row.versus.difference.mean == pytest.approx(board.rows[0].test.mean - 0.7)
    assert row.outcome == "ours is better"
    assert row.sentence == (
        "Published by U-Net: dice, mean over images, 0.700 of 60 images; mobilenetv2_035 reaches "
        f"{row.ours.mean:.3f} [{row.ours.low:.3f}, {row.ours.high:.3f}]. Ours is better: with a "
        "probability of over 99 %."
    )
    assert judged(params, runs, board, mean=0.95).outcome == "published is better"
    near = judged(params, runs, board, mean=round(row.ours.mean, 3))
    assert near.outcome == "undecided"
    assert near.versus is not None
    assert near.versus.p_ours == pytest.approx(0.5, abs=0.05)


def test_few_images_and_a_wide_spread_decide_less(
    params: Params, runs: list[RunResult], board: Leaderboard
) -> None:
    def probability(**changes: Any) -> float:
        row = judged(params, runs, board, mean=0.77, **changes)
        assert row.versus is not None
        return row.versus.p_ours

    assert 0.5 < probability(images=5) < probability() < probability(images=1000)
    assert probability(sd=0.3) < probability() < probability(sd=0.01)


@pytest.mark.parametrize("metric", ["dice", "iou", "precision", "recall", "specificity"])
def test_a_pooled_score_stands_beside_the_ratio_of_all_pixels(
    metric: str, params: Params, runs: list[RunResult], board: Leaderboard
) -> None:
    """And not beside the mean over images, from which it differs."""
    row = judged(params, runs, board, metric=metric, averaging="pooled")
    pooled = []
    for run in runs[:3]:
        tp, fp, fn, tn = run.counts["test"].sum(axis=(0, 1))
        whole = {
            "dice": (2 * tp, 2 * tp + fp + fn),
            "iou": (tp, tp + fp + fn),
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "specificity": (tn, tn + fp),
        }[metric]
        pooled.append(whole[0] / whole[1])
    assert row.ours is not None
    assert row.ours.mean == pytest.approx(np.mean(pooled))
    assert row.ours.low < row.ours.mean < row.ours.high
    if metric == "dice":
        assert abs(row.ours.mean - board.rows[0].test.mean) > 1e-5


def test_pooled_accuracy_weighs_images_by_the_pixels_that_count(
    params: Params, runs: list[RunResult], board: Leaderboard
) -> None:
    row = judged(params, runs, board, metric="accuracy", averaging="pooled")
    images = [run.images[run.images["split"] == "test"] for run in runs[:3]]
    assert row.ours is not None
    assert row.ours.mean == pytest.approx(np.mean([one["accuracy"].mean() for one in images]))


def test_folds_are_pooled_each_by_itself(params: Params) -> None:
    runs = [evaluated("mobilenetv2_035", 0, 0.9, 0.6 + fold / 10, fold=fold) for fold in range(3)]
    chosen = params.comparison.model_copy(
        update={"candidates": ["mobilenetv2_035"], "folds": [0, 1, 2]}
    )
    params = params.model_copy(update={"comparison": chosen})
    rows = published(params, averaging="pooled")
    (row,) = judge_published(
        rows, LabelScheme(2, 0), audit(folds=3), runs, make_leaderboard(params, runs)
    )
    expected = []
    for run in runs:
        expected.append(dice(run.counts["test"].sum(axis=(0, 1))))
    assert row.ours is not None
    assert row.ours.mean == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    "metric", ["dice", "iou", "precision", "recall", "specificity", "accuracy"]
)
def test_pixels_of_all_classes_are_pooled(metric: str, params: Params) -> None:
    """As `counts.summarise` pools them, beside images of other sizes."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 500, (30, 2, 4))
    cells[:, 1, TN] += cells[:, 0].sum(axis=1)
    cells[:, 0, TN] += cells[:, 1].sum(axis=1) - cells[:, 0].sum(axis=1)
    counted = cells[:, 0].sum(axis=1)
    right = rng.integers(0, counted)
    run = evaluated("a", 0, 0.7, 0.7, groups=15)
    run.images["accuracy"] = np.tile(right / counted, 2)
    run = replace(run, counts={"test": cells})
    found = measure(metric, "pooled", params, [run], ["a"])
    assert found.weights is not None
    expected = summarise(cells, np.stack([right, counted], axis=1))[f"{metric}_micro"]
    assert np.nansum(found.values * found.weights) == pytest.approx(expected)


def leave(run: RunResult, folder: Path, batch_size: int, classes: int) -> RunResult:
    """The run with its rows and sums on disk, in another order than that of their ids."""
    rng = np.random.default_rng([run.seed, len(run.alias)])
    rows = run.images[run.images["split"] == "test"].sample(frac=1, random_state=run.seed)
    sums = []
    for share in rows["dice"]:
        truth, found = rng.integers(300, 900, classes), rng.integers(300, 900, classes)
        sums.append(np.stack([truth * share, truth + found], axis=-1))
    soft = np.array(sums, np.float32)
    out = folder / run.name
    out.mkdir()
    summary = {
        **run.summary,
        "test/dice_soft_batch": soft_dice_batch(torch.tensor(soft), batch_size),
        "sha256": {
            **run.summary["sha256"],
            "images": write_images(out / "images.csv", rows),
            "soft": write_soft(out / "soft.npz", {"test": soft}),
        },
    }
    return replace(run, folder=out, summary=summary)


@pytest.mark.parametrize("classes", [1, 2])
def test_soft_dice_over_batches_stands_beside_that_of_the_device(
    classes: int, params: Params, runs: list[RunResult], board: Leaderboard, tmp_path: Path
) -> None:
    runs = [leave(run, tmp_path, params.evaluate.batch_size, classes) for run in runs]
    row = judged(params, runs, board, averaging="batch", mean=0.5)
    assert row.ours is not None
    own = [run.summary["test/dice_soft_batch"] for run in runs[:3]]
    assert row.ours.mean == pytest.approx(np.mean(own))
    assert 0 < row.ours.high - row.ours.low < 0.2
    assert row.words == "soft dice, mean over batches"
    (runs[0].folder / "soft.npz").unlink()
    with pytest.raises(InputError, match=r"soft.npz: missing or changed; run 'dvc pull'"):
        judged(params, runs, board, averaging="batch", mean=0.5)


@pytest.mark.parametrize(
    ("changes", "torn", "reason", "beside"),
    [
        ({"num_classes": 3}, 0, "it is over 3 classes, ours over 2", True),
        ({"split": "unknown"}, 0, "how its images were split is not known", True),
        ({"split": "random"}, 0, "its images were split at random, ours keeps groups", True),
        ({"split": "group"}, 4, "its groups were kept together, ours are on both sides", True),
        ({"split": "predefined"}, 0, "it is on the dataset's own lists, ours on a split by", True),
        ({"metric": "mae"}, 0, "mae is not measured here as a mean over images", False),
        ({"metric": "dise"}, 0, "not measured here .*did you mean dice", False),
        ({"metric": "hausdorff95"}, 0, "hausdorff95 is not measured here as a mean", False),
        ({"metric": "surface_dice", "averaging": "pooled"}, 0, "not measured here pooled", False),
        ({"metric": "iou", "averaging": "batch"}, 0, "iou is not measured here over b", False),
    ],
)
def test_what_means_something_else_has_no_probability(
    changes: dict[str, Any],
    torn: int,
    reason: str,
    beside: bool,
    params: Params,
    runs: list[RunResult],
    board: Leaderboard,
) -> None:
    row = judged(params, runs, board, torn, **changes)
    assert row.outcome == "not comparable"
    assert row.versus is None
    assert (row.ours is not None) == beside
    assert re.search(reason, row.reason)
    assert "nan" not in row.sentence


@pytest.mark.parametrize(
    ("theirs", "by", "is_torn", "is_grouped", "comparable"),
    [
        ("random", "random", True, True, True),
        ("random", "predefined", True, True, True),  # lists that tear sequences apart
        ("random", "group", False, False, True),  # each image is a group of its own
        ("random", "predefined", False, True, False),
        ("predefined", "predefined", True, True, True),
        ("predefined", "random", True, True, False),
        ("group", "group", False, True, True),
        ("group", "predefined", False, True, True),
        ("group", "group", False, False, False),
        ("group", "random", True, True, False),
    ],
)
def test_splits_of_a_kind(
    theirs: str, by: str, is_torn: bool, is_grouped: bool, comparable: bool
) -> None:
    assert (split_difference(theirs, by, is_torn, is_grouped) == "") == comparable


@pytest.mark.parametrize("averaging", ["per_image", "pooled"])
def test_a_score_of_ours_that_nothing_defines_is_no_number(
    averaging: str, params: Params, runs: list[RunResult], board: Leaderboard
) -> None:
    for run in runs[:3]:
        run.images["precision"] = np.nan
        run.counts["test"][:, :, [TP, FN]] = 0
    row = judged(params, runs, board, metric="precision", averaging=averaging)
    assert (row.outcome, row.reason) == ("not comparable", "nothing defines ours")
    assert row.ours is None


def test_one_group_of_test_images_decides_nothing(params: Params, runs: list[RunResult]) -> None:
    for run in runs:
        run.images["group"] = "all"
    row = judged(params, runs, make_leaderboard(params, runs))
    assert row.outcome == "undecided"
    assert row.reason.startswith("ours is of one group of test images")
    assert not row.is_bounded
    assert "nan" not in row.sentence


def test_chances_are_never_certain() -> None:
    assert [chance_text(p) for p in (0.0, 0.004, 0.5, 0.989, 0.9999, 1.0, np.nan)] == [
        *("under 1 %", "under 1 %", "50 %", "99 %", "over 99 %", "over 99 %", "-")
    ]
