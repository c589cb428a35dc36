"""What would resolve the difference that matters is said with its cost, or that nothing would."""

import re
from typing import Any

import numpy as np
import pytest

from segbench.comparison.planning import make_plan
from segbench.comparison.statistics.planning import Variances
from segbench.params import Params

IMAGES = (0.0002, 24.0)


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    tree["comparison"].update(smallest_that_matters=0.03)
    return Params.model_validate(tree)


def test_more_seeds_have_a_price_in_time(params: Params) -> None:
    found = Variances("seeds", 25, 3, 1, (0.00002, 24.0), (0.0002, 8.0))
    plan = make_plan(params.comparison, found, 4, {"a": 30.0, "b": 90.0})
    said = re.search(r"(\d+) seeds in place of 3 \(([^)]*) more of training\)", plan.sentence)
    assert said is not None
    more = (int(said[1]) - 3) * 4  # trainings of a minute each
    assert said[2] == f"{more} min 00 s" if more < 60 else f"{more // 60} h {more % 60:02} min"
    assert "more groups alone are not enough" in plan.sentence
    assert [number for number, *_ in plan.rows] == [3, 6, 12, 24]
    assert plan.rows[0][1] == ""  # nothing more
    assert plan.groups == [25, 50, 100, 200]
    table = np.array([row[2] for row in plan.rows])
    assert (np.diff(table, axis=0) < 0).all()


def test_other_folds_are_all_trained_anew(params: Params) -> None:
    found = Variances("folds", 100, 1, 5, (0.00001, 99.0), (0.0001, 4.0))
    plan = make_plan(params.comparison, found, 2, {"a": 60.0, "b": 60.0})
    assert plan.trainings == "folds"
    assert plan.rows[1][:2] == (10, "20 min 00 s more")


def test_one_training_plans_for_its_networks_only(params: Params) -> None:
    plan = make_plan(params.comparison, Variances("one training", 25, 1, 1, IMAGES, (0, 1)), 4, {})
    assert "between networks as they are trained here" in plan.sentence
    assert "seeds" not in plan.sentence
    assert len(plan.rows) == 1


def test_times_that_are_not_known_are_left_out(params: Params) -> None:
    found = Variances("seeds", 25, 3, 1, (0.00002, 24.0), (0.0002, 8.0))
    plan = make_plan(params.comparison, found, 4, {"a": None})
    assert "of training" not in plan.sentence
    assert {time for _, time, _ in plan.rows} == {""}


def test_that_nothing_is_enough_is_said(params: Params) -> None:
    found = Variances("seeds", 25, 3, 1, IMAGES, (0.5, 8.0))
    assert (
        "no number that was looked at is enough"
        in make_plan(params.comparison, found, 4, {}).sentence
    )


def test_a_comparison_that_is_large_enough_needs_no_more(params: Params) -> None:
    found = Variances("seeds", 25, 3, 1, (1e-6, 24.0), (1e-6, 8.0))
    plan = make_plan(params.comparison, found, 4, {"a": 60.0})
    assert plan.sentence == "A difference of 0.03 is found in 80 of 100 comparisons like this."
