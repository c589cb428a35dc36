"""Whatever is reported can rank: the lowest leads where lower is better, and decisions follow."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segbench.comparison.cheapest import find_cheapest
from segbench.comparison.external import judge
from segbench.comparison.leaderboard import Leaderboard, make_leaderboard
from segbench.comparison.plots import share_of_images
from segbench.comparison.ranking import ranking_of
from segbench.comparison.requirements import report_values
from segbench.comparison.single_images import rules_of, spread_over_images
from segbench.comparison.subgroups import find_subgroups
from segbench.comparison.tables import to_metrics, to_table
from segbench.comparison.verdict import caveats, headline, verdict_sentence
from segbench.errors import InputError
from segbench.evaluation.results import RunResult
from segbench.metrics import counts
from segbench.metrics.catalogue import DEFINITIONS, DISTANCES, MASK_METRICS, VARIANTS
from segbench.params import Params, metric_names
from support.comparison import COST, FACTS, elsewhere, evaluated
from support.own_folder import own
from support.params import problems

MEANS = {"a": (0.8, 0.8), "b": (0.79, 0.792), "c": (0.6, 0.62)}
COSTS = {alias: replace(COST, parameters=10**6 * at) for at, alias in enumerate("abc", 1)}
PIXELS_PER_POINT = 100
"""So far is an outline off for a dice that is lower by 1."""


def by(tree: dict[str, Any], metric: str, matters: float = 0.01, **others: object) -> Params:
    """Params of the candidates a, b and c, ranked by a metric."""
    tree["candidates"] = dict.fromkeys("abc", next(iter(tree["candidates"].values())))
    chosen = {"metric": metric, "class_weights": None, "smallest_that_matters": matters, **others}
    tree["comparison"].update(candidates=["a", "b", "c"], seeds=[0, 1, 2], num_resamples=500)
    tree["comparison"].update(chosen)
    return Params.model_validate(tree)


@pytest.fixture
def runs() -> list[RunResult]:
    """Whose outlines are the farther off, the lower their dice is."""
    found = [evaluated(alias, seed, *pair) for alias, pair in MEANS.items() for seed in range(3)]
    for run in found:
        run.images["dice"] = run.images["dice"].clip(0.01, 0.99)
        run.images["hausdorff95_original"] = PIXELS_PER_POINT * (1 - run.images["dice"])
        run.images["hausdorff95_original_chosen"] = run.images["hausdorff95_original"]
    return found


def test_a_distance_decides_as_its_negative_does(
    tree: dict[str, Any], runs: list[RunResult]
) -> None:
    by_dice, by_distance = by(tree, "dice"), by(tree, "hausdorff95_original", 1.0)
    up, down = (make_leaderboard(params, runs) for params in (by_dice, by_distance))
    means = {row.alias: row.test.mean for row in down.rows}
    assert down.rows[0].alias == "a" == min(means, key=lambda alias: means[alias])
    relations = [row.relation for row in up.rows[1:]]
    assert "worse" in relations
    assert [row.relation for row in down.rows[1:]] == relations
    for one, other in zip(up.rows, down.rows, strict=True):
        assert (other.alias, other.rank) == (one.alias, one.rank)
        assert other.p_best == pytest.approx(one.p_best)
        assert other.p_not_worse == pytest.approx(one.p_not_worse)
        for name in ("val", "test"):
            score, away = getattr(one, name), getattr(other, name)
            told = [100 * (1 - value) for value in (score.mean, score.high, score.low)]
            assert [away.mean, away.low, away.high] == pytest.approx(told)
        if one.difference_to_champion:
            gap, apart = one.difference_to_champion, other.difference_to_champion
            assert apart is not None
            assert apart.p == gap.p
            assert apart.interval.mean == pytest.approx(-100 * gap.interval.mean)
            assert apart.interval.high == pytest.approx(-100 * gap.interval.low)
            assert apart.interval.mean == pytest.approx(means[other.alias] - means["a"])
    assert down.resolvable == pytest.approx(100 * up.resolvable)
    assert down.winners_curse == pytest.approx(100 * up.winners_curse)
    assert down.stability == up.stability
    assert _cheapest(by_distance, down) == _cheapest(by_dice, up) != "a"


def _cheapest(params: Params, board: Leaderboard) -> str:
    costs = {"a": COSTS["c"], "b": COSTS["b"], "c": COSTS["a"]}
    return find_cheapest(params.comparison, board, costs).row.alias


def test_requirements_follow_the_direction(tree: dict[str, Any], runs: list[RunResult]) -> None:
    board = make_leaderboard(by(tree, "hausdorff95_original", 1.0), runs)
    known = report_values(board, COSTS)
    assert known["test"] == pytest.approx(known["hausdorff95_per_image_original"])
    assert known["behind_of_c"] == pytest.approx(board.rows[0].test.mean - board.rows[2].test.mean)
    assert known["behind_high_of_c"] < 0
    assert known["lead"] == pytest.approx(board.rows[1].test.mean - known["test"])
    assert known["p"] < 0.5
    table = to_table(board, COSTS).set_index("candidate")
    assert table.loc["c", "behind"] == known["behind_of_c"]
    assert table.loc["c", "test"] > table.loc["a", "test"]


def test_words_follow_the_direction(tree: dict[str, Any], runs: list[RunResult]) -> None:
    params = by(tree, "hausdorff95_original", 1.5)
    board = make_leaderboard(params, runs)
    said = verdict_sentence(params.comparison, board, COSTS, leaky=False)
    val, test = board.rows[0].val.mean, board.rows[0].test.mean
    assert f"a has the best (lowest) validation hausdorff95_original ({val:.3f} pixels)" in said
    assert f"reaches {test:.3f} [" in said
    assert "] pixels on test. The test set confirms its lead over c (p" in said
    assert "differs by less than 1.5 pixels from b" in said
    contradicted = [evaluated("a", 0, 0.5, 0.9), evaluated("b", 0, 0.9, 0.5)]
    for run in contradicted:
        run.images["hausdorff95_original"] = run.images["dice"]
        run.images["hausdorff95_original_chosen"] = run.images["dice"] + 2 * (run.alias == "a")
    params = by(tree, "hausdorff95_original", 1.5, candidates=["a", "b"], seeds=[0])
    board = make_leaderboard(params, contradicted)
    assert board.rows[1].relation == "equivalent"
    assert "does not carry over" in " ".join(caveats(params.comparison, board, {}))
    params = by(tree, "hausdorff95_original", 0.1, candidates=["a", "b"], seeds=[0])
    board = make_leaderboard(params, contradicted)
    said = verdict_sentence(params.comparison, board, COSTS, leaky=False)
    assert "The test set contradicts this: b (p = 0.002) scored lower there." in said
    assert headline(params.comparison, board, leaky=False).endswith("but b did better on test")


def test_single_images_follow_the_direction(tree: dict[str, Any], runs: list[RunResult]) -> None:
    ranking = ranking_of(by(tree, "hausdorff95_original", 1.0))
    single = spread_over_images(runs, ["a", "b", "c"], ranking, 0.95)
    of_a = np.sort(single.scores[0])
    assert single.worst[0] == pytest.approx(of_a[-6:].mean())  # the tenth of 60 images
    assert list(rules_of(ranking)) == ["left out", "count as 0", "objects only"]
    assert (single.by_rule["count as 0"] <= single.by_rule["left out"]).all()
    groups = [one for one in find_subgroups(runs, ["a"], ranking, 0.95) if "hardest" in one.kind]
    means = runs[0].images.query("split == 'test'").groupby("group")["hausdorff95_original"].mean()
    shown = np.mean([one.scores[0].mean for one in groups])
    assert len(groups) == 10
    assert shown > means.quantile(0.75)
    known, at = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 3.0, 4.0])
    assert share_of_images(known, at, True) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert share_of_images(known, at, False) == pytest.approx([1, 1, 1 / 3, 1 / 3])


def test_an_external_set_is_ranked_in_the_direction(
    tree: dict[str, Any], runs: list[RunResult]
) -> None:
    params = by(tree, "hausdorff95_original", 1.0)
    board = make_leaderboard(params, runs)
    there = [elsewhere(run, "clinic", 0.5) for run in runs]
    for run in there:
        run.images["hausdorff95_original"] = {"a": 3.0, "b": 2.0, "c": 7.0}[run.alias]
    rows = judge(params.comparison, board, "clinic", FACTS, there).rows
    assert [(row.alias, row.rank, row.test_rank) for row in rows] == [
        *(("b", 1, 2), ("a", 2, 1), ("c", 3, 3)),
    ]
    assert rows[2].score.mean == 7


@pytest.mark.parametrize(
    "metric",
    [
        *("dice_original", "iou_chosen", "specificity_original_chosen", "surface_dice_original"),
        *("hausdorff95_chosen", "average_precision", "brier_score", "average_surface_distance"),
    ],
)
def test_means_over_images_are_those_of_the_column(
    metric: str, tree: dict[str, Any], runs: list[RunResult]
) -> None:
    tree["evaluate"]["extra_metrics"] = ["brier", "surface_distance"]
    rng = np.random.default_rng(0)
    for run in runs:
        run.images[metric] = rng.random(len(run.images)) * (5 if metric in DISTANCES else 1)
    params = by(tree, metric)
    board = make_leaderboard(params, runs)
    for row in board.rows:
        rows = pd.concat([run.images for run in runs if run.alias == row.alias])
        means = rows.groupby("split")[metric].mean()
        assert row.val.mean == pytest.approx(means["val"])
        assert [row.test.mean, row.scores[metric]] == pytest.approx([means["test"]] * 2)
    vals = [row.val.mean for row in board.rows]
    lower = DEFINITIONS[params.rank_name.stem].lower_is_better
    assert vals == sorted(vals, reverse=not lower)


@pytest.mark.parametrize("at", ["", "_original_chosen"])
@pytest.mark.parametrize("score", counts.SCORES)
def test_pooled_scores_are_ratios_of_all_pixels(
    score: str, at: str, tree: dict[str, Any], runs: list[RunResult]
) -> None:
    for run in runs:  # other masks than those of the other variants
        for key, cells in run.counts.items():
            cells[:, 0, [counts.TP, counts.FN]] += len(key) * np.array([1, -1])
    params = by(tree, f"{score}_micro{at}")
    for row in make_leaderboard(params, runs).rows:
        own = [run.counts for run in runs if run.alias == row.alias]
        for ending in VARIANTS:
            cells = np.stack([part[f"test{ending}"].sum(axis=(0, 1)) for part in own])
            mean = counts.SCORES[score](cells).mean()
            assert row.scores[f"{score}_micro{ending}"] == pytest.approx(mean)
        assert row.test.mean == pytest.approx(row.scores[f"{score}_micro{at}"])
        assert row.test.low < row.test.mean < row.test.high


def streets(run: RunResult) -> RunResult:
    """With the counts of a road, cars, of which every other image has none, and trams, of which
    none has any."""
    rng = np.random.default_rng(len(run.images) + run.seed + ord(run.alias))
    found = {}
    for key, given in run.counts.items():
        number, cells = len(given), []
        sizes = np.full(number, 900), np.tile([300, 0], number)[:number], np.zeros(number, int)
        for at, size in enumerate(sizes):
            hits = np.rint(size * rng.uniform(0.4, 1, number)).astype(int)
            wrong = rng.integers(0, 60, number) * (at < 2)
            cells.append(np.stack([hits, wrong, size - hits, 4096 - size - wrong], axis=1))
        found[key] = np.stack(cells, axis=1)
    rows = run.images.assign(**{f"dice_class_{name}": 0.5 for name in ("road", "car", "tram")})
    return replace(run, images=rows, counts=found)


def classes_of(tree: dict[str, Any], metric: str) -> Params:
    values = {at: at for at in range(4)}
    names = ["nothing", "road", "car", "tram"]
    section = own(Path("source"), classes=names, background=0, mask={"values": values})
    tree["dataset"] = section.model_dump(mode="json")
    tree["train"]["loss"] = {"dice": 1.0}
    return by(tree, metric)


@pytest.mark.parametrize(
    ("metric", "of_cells"),
    [
        ("mean_iou", lambda cells: counts.iou(cells.sum(0)[:2]).mean()),
        ("mean_class_accuracy", lambda cells: counts.recall(cells.sum(0)[:2]).mean()),
        ("dice_macro", lambda cells: counts.dice(cells.sum(0)[:2]).mean()),
        ("iou_class_car", lambda cells: counts.iou(cells.sum(0)[1])),
        ("recall_class_road", lambda cells: counts.recall(cells.sum(0)[0])),
        ("dice_class_car", lambda cells: np.nanmean(counts.dice(cells[:, 1]))),
        ("dice_micro", lambda cells: counts.dice(cells.sum((0, 1)))),
    ],
)
def test_classes_rank(
    metric: str, of_cells: Any, tree: dict[str, Any], runs: list[RunResult]
) -> None:
    runs = [streets(run) for run in runs]
    board = make_leaderboard(classes_of(tree, metric), runs)
    for row in board.rows:
        for ending in VARIANTS:
            tests = [run.counts[f"test{ending}"] for run in runs if run.alias == row.alias]
            # Over runs, but for means over images.
            parts = [np.concatenate(tests)] if metric == "dice_class_car" else tests
            mean = np.mean([of_cells(cells) for cells in parts])
            assert row.scores[f"{metric}{ending}"] == pytest.approx(mean)
        assert row.test.mean == pytest.approx(row.scores[metric])
    key = {"dice_class_car": "dice_per_image_class_car"}.get(metric, metric)
    assert to_metrics(board.rows[0], board.ranking)[f"test_{key}"] == board.rows[0].test.mean
    assert f"test_{key}" in to_table(board, COSTS)


def test_a_class_that_no_image_holds_cannot_rank(
    tree: dict[str, Any], runs: list[RunResult]
) -> None:
    with pytest.raises(InputError, match="no val image defines its iou_class_tram"):
        make_leaderboard(classes_of(tree, "iou_class_tram"), [streets(run) for run in runs])


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("jaccard", "comparison.metric: no metric 'jaccard' is reported"),
        ("dise_original", "'dise_original' is reported (did you mean dice"),
        ("brier_score", "or what evaluate.extra_metrics adds"),
        ("average_precision_original", "no metric 'average_precision_original' is reported"),
        ("dice class", "comparison.metric: string should match pattern"),
        ("iou_class_tram", "comparison.metric: iou_class_tram needs several classes with a score"),
    ],
)
def test_what_is_not_reported_cannot_rank(
    metric: str, said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["comparison"]["metric"] = metric
    assert said in problems(tree, tmp_path)


def test_what_no_optional_metric_adds_cannot_rank(tree: dict[str, Any]) -> None:
    tree["evaluate"]["extra_metrics"] = ["brier"]
    with pytest.raises(InputError, match=r"no metric 'brier' is reported \(did you mean brier_sc"):
        ranking_of(by(tree, "brier"))


def test_a_column_that_was_not_scored_is_named(tree: dict[str, Any], runs: list[RunResult]) -> None:
    tree["evaluate"]["extra_metrics"] = ["cldice"]
    with pytest.raises(InputError, match=r"a-fold0-seed0 has no cldice \(did you mean dice"):
        make_leaderboard(by(tree, "cldice"), runs)


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_what_matters_of_a_distance_is_above_0(
    value: float, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["comparison"].update(metric="hausdorff95_original", smallest_that_matters=value)
    assert "give one above 0, of a distance in pixels or, with" in problems(tree, tmp_path)


def test_what_matters_of_an_optional_share_is_below_a_half(tree: dict[str, Any]) -> None:
    tree["evaluate"]["extra_metrics"] = ["brier", "surface_distance"]
    with pytest.raises(InputError, match="two scores that lie in 0 to 1"):
        ranking_of(by(tree, "brier_score", 2.0))
    ranking = ranking_of(by(tree, "average_surface_distance", 2.0))
    assert (ranking.lower_is_better, ranking.unit, ranking.matters) == (True, "pixels", 2.0)


def test_distances_have_the_unit_of_their_size(tree: dict[str, Any]) -> None:
    tree["dataset"] = own(Path("source"), spacing=[0.5, 0.5]).model_dump(mode="json")
    assert ranking_of(by(tree, "hausdorff95_original", 2.0)).unit == "mm"
    assert ranking_of(by(tree, "hausdorff95", 2.0)).unit == "pixels"
    assert ranking_of(by(tree, "surface_dice_original", 0.1)).unit == ""


def test_names_are_those_of_the_metrics() -> None:
    assert set(metric_names.OF_MASKS) == set(MASK_METRICS)
    assert {f"{name}_micro" for name in (*counts.SCORES, "accuracy")} == set(metric_names.POOLED)
    known = {name: counts.MEANS_OF_CLASSES.get(name, f"{name}_macro") for name in counts.SCORES}
    assert known == metric_names.MEANS_OF_CLASSES
    distances = {name for name in MASK_METRICS if DEFINITIONS[name].is_distance}
    assert distances == set(metric_names.DISTANCES)


def weighing(tree: dict[str, Any], weights: dict[str, float], metric: str = "dice") -> Params:
    classes_of(tree, metric)
    tree["comparison"]["class_weights"] = weights
    return Params.model_validate(tree)


@pytest.mark.parametrize("metric", ["dice", "iou", "recall"])
def test_classes_may_weigh_unlike(metric: str, tree: dict[str, Any], runs: list[RunResult]) -> None:
    """A class that an image has no score of leaves its mean, with its weight."""
    runs = [streets(run) for run in runs]
    params = weighing(tree, {"car": 3.0, "road": 1.0, "tram": 5.0}, metric)
    board = make_leaderboard(params, runs)
    assert board.ranking.name == f"{metric}_weighted"
    for row in board.rows:
        tests = [run.counts["test"] for run in runs if run.alias == row.alias]
        found = []
        for cells in np.concatenate(tests):
            road, car = counts.SCORES[metric](cells[:2])
            found.append(road if np.isnan(car) else (road + 3 * car) / 4)
        assert len(found) == 180
        assert row.test.mean == pytest.approx(np.mean(found))
        assert row.scores[f"{metric}_weighted"] == pytest.approx(np.mean(found))
    assert to_metrics(board.rows[0], board.ranking)[f"test_{metric}_weighted"] is not None
    assert to_metrics(board.rows[0], board.ranking)["test_dice"] == board.rows[0].scores["dice"]
    assert f"test_{metric}_weighted" in to_table(board, COSTS)
    told = caveats(params.comparison, board, {})
    assert any(f"ranked by {metric}_weighted, but" in caveat for caveat in told)
    said = verdict_sentence(params.comparison, board, COSTS, leaky=False)
    assert f"has the best validation {metric}_weighted" in said


def test_one_class_with_all_weight_ranks_by_its_dice(
    tree: dict[str, Any], runs: list[RunResult]
) -> None:
    runs = [streets(run) for run in runs]
    alone = make_leaderboard(weighing(tree, {"car": 2.0}), runs)
    by_class = make_leaderboard(classes_of(tree, "dice_class_car"), runs)
    assert alone.aliases == by_class.aliases
    for one, other in zip(alone.rows, by_class.rows, strict=True):
        assert one.test.mean == pytest.approx(other.test.mean)


@pytest.mark.parametrize(
    ("weights", "metric", "said"),
    [
        (
            {"cra": 1},
            "dice",
            "score is called 'cra' (did you mean car, tram, road?); take",
        ),
        ({"nothing": 1}, "dice", "no class with a score is called 'nothing'"),
        ({"car": -1}, "dice", "comparison.class_weights: car: -1 is below 0; give 0 or more"),
        ({"car": 0, "road": 0}, "dice", "comparison.class_weights: no class has a weight above 0"),
        ({}, "dice", "comparison.class_weights: no class has a weight above 0"),
        ({"car": "much"}, "dice", "comparison.class_weights.car: input should be a valid number"),
        ({"car": 1}, "mean_iou", "class_weights: mean_iou is no mean over the classes of an image"),
    ],
)
def test_weights_that_cannot_be(
    weights: dict[str, Any], metric: str, said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    classes_of(tree, metric)
    tree["comparison"]["class_weights"] = weights
    assert said in problems(tree, tmp_path)


def test_one_class_has_nothing_to_weigh(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["comparison"]["class_weights"] = {"polyp": 1}
    assert "dice_weighted needs several classes with a score" in problems(tree, tmp_path)


def test_names_of_classes_are_written_as_they_are(tree: dict[str, Any]) -> None:
    values = {at: at for at in range(3)}
    names = ["nothing", "traffic light", "car"]
    section = own(Path("source"), classes=names, background=0, mask={"values": values})
    tree["dataset"] = section.model_dump(mode="json")
    tree["train"]["loss"] = {"dice": 1.0}
    by(tree, "dice", class_weights={"traffic light": 2.0, "car": 1.0})
