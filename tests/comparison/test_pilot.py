"""Finished runs of one or two candidates foretell what a planned comparison would find."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from segbench.comparison.pilot import Pilot, describe_pilot, read_pilot
from segbench.comparison.statistics.differences import compare
from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.planning import foreseen
from segbench.comparison.statistics.power import resolvable
from segbench.params import Params
from support.comparison import evaluated
from support.finished import finished
from support.simulation import Case, simulated


def small(candidates: list[str], seeds: list[int], folds: list[int], groups: int = 30) -> Pilot:
    rng = np.random.default_rng(0)
    runs = [
        evaluated(alias, seed, 0.7, 0.7 + 0.01 * float(rng.normal()), groups, fold)
        for alias in candidates
        for fold in folds
        for seed in seeds
    ]
    return Pilot(candidates, folds, seeds, runs)


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    aliases = [f"encoder{at}" for at in range(6)]
    tree["candidates"] = dict.fromkeys(aliases, tree["candidates"]["resnet18"])
    tree["comparison"].update(
        candidates=aliases, seeds=[0, 1, 2], num_resamples=100, smallest_that_matters=0.001
    )
    return Params.model_validate(tree)


def said(params: Params, pilot: Pilot | None) -> str:
    return " ".join(describe_pilot(params, pilot, {"encoder0": 60.0}))


def test_two_candidates_and_two_seeds_foretell_the_comparison(params: Params) -> None:
    told = said(params, small(["encoder0", "encoder1"], [0, 1], [0]))
    assert told.startswith("certainty, from the finished runs of encoder0, encoder1 (1 fold, 2 s")
    assert "with 6 candidates, 1 fold, 3 seeds and 30 groups of test images" in told
    assert re.search(r"a true difference of 0\.\d{3} dice to the champion is found in 80", told)
    assert "To find a difference of 0.001 in 80 of 100 such comparisons" in told


@pytest.mark.parametrize(
    ("candidates", "seeds"), [(["encoder0"], [0, 1]), (["encoder0", "encoder1"], [0])]
)
def test_a_pilot_that_shows_too_little_gives_a_lower_bound(
    params: Params, candidates: list[str], seeds: list[int]
) -> None:
    assert "a true difference of at least 0." in said(params, small(candidates, seeds, [0]))


def test_seeds_that_will_not_speak_of_trainings_are_told_before_they_are_trained(
    params: Params,
) -> None:
    for groups, refused in ((5, True), (6, False)):
        told = said(params, small(["encoder0", "encoder1"], [0, 1], [0], groups=groups))
        assert ("networks as trained here, not of encoders trained anew. Seeds" in told) is refused
        assert ("weigh as 5.0 groups of equal size, where it takes 6." in told) is refused


def test_a_pilot_that_shows_nothing_says_what_it_takes(params: Params) -> None:
    assert "add a second candidate" in said(params, small(["encoder0"], [0], [0]))
    assert "run these first" in said(params, None)
    one_group = small(["encoder0", "encoder1"], [0], [0], groups=1)
    assert "one group, so nothing can be tested" in said(params, one_group)


def test_one_candidate_is_not_compared(params: Params) -> None:
    alone = params.comparison.model_copy(update={"candidates": ["encoder0"]})
    assert describe_pilot(params.model_copy(update={"comparison": alone}), None, {}) == []


def on_disk(tree: dict[str, Any], folder: Path) -> tuple[tuple[Path, ...], str]:
    """Finished runs: where they lie, and the digest of their data."""
    means = {f"encoder{at}": (0.7, 0.7) for at in range(2)}
    planned = list(tree["comparison"]["candidates"])
    finished(folder, tree, means)
    tree["comparison"]["candidates"] = planned
    where = ("reports/metrics", "data/evaluate", "reports/history", "reports/runs")
    metrics, *others = (folder / one for one in where)
    scores = json.loads(next(metrics.glob("*.json")).read_text())
    return (metrics, *others), scores["sha256"]["dataset"]


def test_a_pilot_is_what_all_its_candidates_have(
    params: Params, tree: dict[str, Any], tmp_path: Path
) -> None:
    where, digest = on_disk(tree, tmp_path)
    (where[0] / "encoder1-fold0-seed2.json").unlink()
    (where[1] / "encoder0-fold0-seed1" / "images.csv").unlink()
    pilot = read_pilot(params, digest, *where)
    assert pilot is not None
    assert (pilot.candidates, pilot.folds, pilot.seeds) == (["encoder0", "encoder1"], [0], [0])
    assert "from the finished runs of encoder0, encoder1 (1 fold, 1 seed)" in said(params, pilot)


def test_runs_of_other_data_foretell_nothing(
    params: Params, tree: dict[str, Any], tmp_path: Path
) -> None:
    where, _ = on_disk(tree, tmp_path)
    assert read_pilot(params, "0" * 64, *where) is None


def test_points_of_learning_curves_are_no_pilots(
    params: Params, tree: dict[str, Any], tmp_path: Path
) -> None:
    where, digest = on_disk(tree, tmp_path)
    point = params.candidates["encoder1"].model_copy(update={"train_share": 0.5})
    curved = params.model_copy(update={"candidates": {**params.candidates, "encoder1": point}})
    pilot = read_pilot(curved, digest, *where)
    assert pilot is not None
    assert pilot.candidates == ["encoder0"]


PLANNED = [
    (Case(candidates=2, seeds=2), Case(candidates=6)),
    (Case(candidates=2, seeds=2), Case(candidates=6, seeds=6)),
    (Case(candidates=2, seeds=1, of_seeds=0), Case(candidates=6, seeds=1, of_seeds=0)),
    (
        Case(candidates=2, seeds=2, groups=10),
        Case(candidates=6, seeds=1, folds=5, groups=50),
    ),
    (Case(candidates=2, seeds=1, folds=5), Case(candidates=6, seeds=1, folds=5)),
]


@pytest.mark.parametrize(("pilot", "planned"), PLANNED)
def test_what_is_foretold_is_found(pilot: Case, planned: Case) -> None:
    """By the median of pilots, each of which knows the variances only roughly."""
    rng = np.random.default_rng(0)
    foretold = []
    for _ in range(60):
        found = foreseen(simulated(pilot, rng), False, 6, planned.seeds, planned.folds)
        foretold.append(found.resolvable(1.0, found.trainings_now, 5, 0.95))
    pairs = np.array([(at, 0) for at in range(1, 6)])
    true = [
        resolvable(one)
        for trial in range(15)
        for one in compare(simulated(planned, rng), pairs, 0.95, 400, trial)
    ]
    assert np.median(foretold) == pytest.approx(np.median(true), rel=0.3)


def test_seeds_of_one_candidate_stand_for_two() -> None:
    """They differ as two encoders do that are equally good, but for what each finds hard."""
    rng = np.random.default_rng(0)
    alone, pair = [], []
    for _ in range(60):
        two = simulated(Case(candidates=2, seeds=2), rng)
        seeds = replace(Case(candidates=2, seeds=1), of_seeds=0.015)
        alone.append(foreseen(simulated(seeds, rng), True, 6, 3, 1).trainings[0])
        pair.append(foreseen(two, False, 6, 3, 1).trainings[0])
    assert np.mean(alone) == pytest.approx(np.mean(pair), rel=0.4)


def test_scores_of_seeds_take_the_place_of_candidates() -> None:
    scores = np.random.default_rng(0).random((1, 2, 20))
    groups, folds = np.arange(20).astype(str), np.zeros(20, int)
    found = foreseen(Panel(scores.transpose(1, 0, 2), groups, folds), True, 4, 3, 5)
    means = scores[0].mean(axis=1)
    half = stats.chi2.median(1)  # of pilots find less than that share of the variance
    assert found.trainings[0] == pytest.approx(2 * means.var(ddof=1) / 3 / half / 5)
