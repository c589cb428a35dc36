"""What a comparison of another size would find is foretold from the variances of this one."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import stdtrit

from segbench.comparison.statistics.differences import compare
from segbench.comparison.statistics.planning import Variances, _tail, needed, variances_of
from segbench.comparison.statistics.power import resolvable
from support.simulation import Case, simulated


def found_by(case: Case, experiments: int, rng: np.random.Generator) -> float:
    """The difference that comparisons of this size say they find."""
    pairs = np.array([(at, 0) for at in range(1, case.candidates)])
    return float(
        np.median(
            [
                resolvable(one)
                for _ in range(experiments)
                for one in compare(simulated(case, rng), pairs, 0.95, 400, 0)
            ]
        )
    )


@pytest.mark.parametrize(
    ("case", "larger", "times", "trainings"),
    [
        (Case(), Case(groups=100), 4, 3),
        (Case(), Case(seeds=6), 1, 6),
        (Case(candidates=12), Case(candidates=12, seeds=6, groups=50), 2, 6),
        (Case(seeds=1, of_seeds=0), Case(seeds=1, of_seeds=0, groups=100), 4, 1),
        (Case(seeds=1, folds=5), Case(seeds=1, folds=10), 1, 10),
    ],
    ids=["groups", "seeds", "both, of 12", "groups of these networks", "folds"],
)
def test_what_a_larger_comparison_finds_is_foretold(
    case: Case, larger: Case, times: float, trainings: int
) -> None:
    rng = np.random.default_rng(0)
    foretold = [
        variances_of(simulated(case, rng)).resolvable(times, trainings, case.candidates - 1, 0.95)
        for _ in range(25)
    ]
    assert np.median(foretold) == pytest.approx(found_by(larger, 25, rng), rel=0.2)


@pytest.mark.parametrize(("degrees", "critical"), [(10, 2.76), (20, 2.54), (1e6, 2.35)])
def test_three_rivals_are_tested_as_dunnetts_table_has_it(degrees: float, critical: float) -> None:
    assert -stdtrit(degrees, _tail(3, degrees, 0.95)) == pytest.approx(critical, abs=0.03)


def found(variances: Variances, groups: int, trainings: int) -> float:
    return variances.resolvable(groups / variances.groups, trainings, 3, 0.95)


def test_numbers_that_are_needed_are_the_fewest_that_are_enough() -> None:
    seeds = Variances("seeds", 25, 3, 1, (0.00002, 24.0), (0.0002, 8.0))
    one = needed(seeds, 0.03, 3, 0.95)
    assert one.groups is None  # seeds alone vary by more
    assert one.trainings is not None
    assert found(seeds, 25, one.trainings) <= 0.03 < found(seeds, 25, one.trainings - 1)
    networks = replace(seeds, design="one training", seeds=1)
    of_networks = needed(networks, 0.01, 3, 0.95)
    assert of_networks.groups is not None
    assert of_networks.trainings is None
    assert (
        found(networks, of_networks.groups, 1) <= 0.01 < found(networks, of_networks.groups - 1, 1)
    )


def test_where_neither_is_enough_alone_both_are_named() -> None:
    seeds = Variances("seeds", 25, 3, 1, (0.0002, 24.0), (0.0002, 8.0))
    one = needed(seeds, 0.012, 3, 0.95)
    assert one.groups is None
    assert one.trainings is None
    assert one.both is not None
    assert found(seeds, *one.both) <= 0.012


def test_nothing_is_foretold_that_no_number_reaches() -> None:
    seeds = Variances("seeds", 25, 3, 1, (0.0002, 24.0), (0.02, 8.0))
    one = needed(seeds, 0.0001, 3, 0.95)
    assert (one.groups, one.trainings, one.both) == (None, None, None)


def test_no_group_more_is_needed_for_what_is_resolved_already() -> None:
    one = needed(Variances("seeds", 25, 3, 1, (1e-6, 24.0), (1e-6, 8.0)), 0.2, 3, 0.95)
    assert (one.groups, one.trainings) == (25, 3)


def test_more_folds_share_what_trainings_add_and_not_what_images_do() -> None:
    five = Variances("folds", 25, 1, 5, (0.0001, 24.0), (0.0003, 4.0))
    alone = Variances("folds", 25, 1, 20, (0.0001 + 0.0003 * 5 / 20, 24.0), (0.0, 19.0))
    assert five.resolvable(1, 20, 3, 0.95) == pytest.approx(alone.resolvable(1, 20, 3, 0.95))
    assert five.resolvable(1, 20, 3, 0.95) < five.resolvable(1, 5, 3, 0.95)
