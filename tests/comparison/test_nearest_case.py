"""A report quotes the simulated case that is most like it, and among those of its own claim."""

import numpy as np
import pandas as pd
import pytest

from segbench.comparison.coverage import TABLE, describe, nearest_case
from segbench.comparison.statistics.panel import design_of
from support.coverage import CASES, typical_groups
from support.simulation import Case, simulated


@pytest.mark.parametrize("name", ["1 seed, 12 candidates", "3 seeds, 9 groups", "5 folds"])
def test_a_case_is_nearest_to_itself(name: str) -> None:
    case = CASES[name]
    found = nearest_case(simulated(case, np.random.default_rng(0)), False)
    own = (case.candidates, case.seeds, case.folds)
    assert (found.candidates, found.seeds, found.folds) == own
    assert found.groups == pytest.approx(typical_groups(case), rel=0.05)


def test_a_case_of_another_claim_is_not_quoted() -> None:
    """Five seeds on two folds speak of these networks, though five seeds on one are nearer."""
    panel = simulated(Case(seeds=5, folds=2), np.random.default_rng(0))
    assert design_of(panel) == "one training"
    assert nearest_case(panel, False).name == "2 seeds"


def test_the_worst_of_equals_is_quoted() -> None:
    panel = simulated(Case(folds=5), np.random.default_rng(0))
    assert nearest_case(panel, False).name == "5 folds x 3 seeds, by 0.03"


def test_an_unstable_candidate_and_misses_count() -> None:
    panel = simulated(Case(), np.random.default_rng(0))
    assert nearest_case(panel, True).unstable
    panel = simulated(Case(groups=100, bimodal=True), np.random.default_rng(0))
    assert nearest_case(panel, False).misses


def test_no_claim_is_made_whose_intervals_hold_too_often() -> None:
    """Those without bounds, of too few groups to declare anything, aside."""
    table = pd.read_csv(TABLE)
    assert table.loc[table["false_alarms"] > 0, "covered"].max() <= 0.99
    assert table["covered"].min() >= 0.92


def test_a_design_that_is_far_from_all_is_said_to_be() -> None:
    near = simulated(Case(), np.random.default_rng(0))
    far = simulated(Case(groups=1500, sizes="one"), np.random.default_rng(0))
    assert "which is not very near" not in describe(nearest_case(near, False))
    assert "which is not very near" in describe(nearest_case(far, False))


def test_the_table_holds_every_case_and_no_other() -> None:
    names = [line.rsplit(",", 9)[0].strip('"') for line in TABLE.read_text().splitlines()[1:]]
    assert names == [*CASES]
