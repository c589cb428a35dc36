"""What would resolve the difference that matters: more groups, seeds or folds, and at what cost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segbench.comparison.statistics.planning import Needed, Variances, needed
from segbench.params.compare import Comparison
from segbench.progress import duration

TIMES = (1, 2, 4, 8)
"""Multiples of groups and of trainings in the table."""


@dataclass(frozen=True)
class Plan:
    """What comparisons of other sizes would find.

    Attributes:
        sentence: what resolves the difference that matters, and what that costs.
        groups: numbers of groups of test images, the columns of the table.
        rows: of the table: seeds or folds, training time in words (empty where unknown), and the
            difference found in 80 of 100 by number of groups, infinite where none is.
        trainings: what the rows are: "seeds" or "folds".
    """

    sentence: str
    groups: list[int]
    rows: list[tuple[int, str, list[float]]]
    trainings: str


def make_plan(
    params: Comparison,
    variances: Variances,
    num_candidates: int,
    seconds: Mapping[str, float | None],
) -> Plan:
    """What comparisons of other sizes would find.

    Args:
        params: the section.
        variances: of the difference to the champion, that were found.
        num_candidates: that are to be compared.
        seconds: that a training takes, by candidate; of all of them, or of a few.
    """
    rivals, matters = num_candidates - 1, params.smallest_that_matters
    found = needed(variances, matters, rivals, params.confidence)
    known = [value for value in seconds.values() if value is not None]
    each = num_candidates * float(np.mean(known)) if known else np.nan
    of = " between networks as they are trained here" * (variances.design == "one training")
    if found.groups == variances.groups:
        sentence = f"A difference of {matters:g}{of} is found in 80 of 100 comparisons like this."
    else:
        ways = _ways(found, variances, each)
        sentence = f"To find a difference of {matters:g}{of} in 80 of 100 such comparisons: {ways}."
    return Plan(
        sentence,
        [variances.groups * times for times in TIMES],
        _rows(variances, rivals, params.confidence, each),
        "folds" if variances.design == "folds" else "seeds",
    )


def _ways(found: Needed, variances: Variances, each: float) -> str:
    kind = "folds" if variances.design == "folds" else "seeds"
    groups = f"{variances.groups} groups of test images"
    if found.both:
        more, trainings = found.both
        return (
            f"neither more groups nor more {kind} alone, but about {more} groups of test images in "
            f"place of {variances.groups} together with {_trainings(trainings, variances, each)}"
        )
    ways = []
    if found.groups:
        ways.append(f"{found.groups} groups of test images in place of {variances.groups}")
    if found.trainings:
        ways.append(_trainings(found.trainings, variances, each))
    if not ways:
        return f"no number that was looked at is enough, up to 1,000 times the {groups}"
    missing = kind if not found.trainings else "groups"
    alone = len(ways) == 1 and variances.design != "one training"
    return " or ".join(ways) + f"; more {missing} alone are not enough" * alone


def _trainings(number: int, variances: Variances, each: float) -> str:
    now = variances.trainings_now
    kind = "folds" if variances.design == "folds" else "seeds"
    time = _time(number, variances, each)
    return f"{number} {kind} in place of {now}" + f" ({time} of training)" * bool(time)


def _time(number: int, variances: Variances, each: float) -> str:
    """Of the trainings that are to be added: other folds are other trainings."""
    if not np.isfinite(each):
        return ""
    if variances.design == "folds":
        more = number * variances.seeds if number != variances.folds else 0
    else:
        more = (number - variances.seeds) * variances.folds
    return f"{duration(more * each)} more" if more else ""


def _rows(
    variances: Variances, rivals: int, confidence: float, each: float
) -> list[tuple[int, str, list[float]]]:
    now = variances.trainings_now
    # More trainings say nothing of networks that are there.
    numbers = [now * times for times in TIMES] if variances.design != "one training" else [now]
    return [
        (
            number,
            _time(number, variances, each),
            [variances.resolvable(times, number, rivals, confidence) for times in TIMES],
        )
        for number in numbers
    ]
