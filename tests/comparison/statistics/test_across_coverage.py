"""Over data sets, too, intervals cover what they claim to; docs/several-datasets.md has all cases
with more experiments."""

import numpy as np
import pytest

from support.several import EVEN, UNEVEN, experiment, measure

EXPERIMENTS = 200
ERROR = float(np.sqrt(0.05 * 0.95 / EXPERIMENTS))


@pytest.mark.parametrize(
    ("number", "spread", "candidates", "groups"),
    [(3, 0.02, 4, EVEN), (3, 0.02, 4, UNEVEN), (5, 0.0, 2, EVEN)],
)
def test_what_is_claimed_over_data_sets_holds(
    number: int, spread: float, candidates: int, groups: tuple[int, ...]
) -> None:
    """Within two and a half errors of so few experiments."""
    found = measure(number, spread, candidates, groups, EXPERIMENTS)
    for covered in (found.these, found.like_these):
        assert covered >= 0.95 - 2.5 * ERROR
    for alarms in (found.alarms_these, found.alarms_like_these):
        assert alarms <= 0.05 + 2.5 * ERROR


def test_what_holds_on_these_need_not_hold_on_others() -> None:
    """So that the tests above can fail: by the claim on these, candidates that are equally good on
    average are told apart in more than a third of experiments."""
    rng = np.random.default_rng(0)
    declared = [
        any(one.these.p < 0.05 for one in experiment(3, 0.05, 4, EVEN, 0.0, rng)[0])
        for _ in range(60)
    ]
    assert np.mean(declared) > 1 / 3
