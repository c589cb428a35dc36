"""What a verdict over several data sets is worth, by simulation: coverage, false alarms, power.

PYTHONPATH=src:tests python -m support.several 1000 docs/several-datasets.md
"""

import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from segbench.comparison.statistics.across import Across, Claim, compare_across
from segbench.comparison.statistics.spread import spread_of
from support.simulation import Case, simulated

NUMBERS = (3, 5, 10)
EVEN, UNEVEN = (25,), (9, 25, 100)
"""Groups of test images on each data set, in turn."""
CASES = [
    *(case for case in product(NUMBERS, (0.0, 0.02), (2, 4, 12), [EVEN])),
    *(case for case in product(NUMBERS, (0.02,), (4,), [UNEVEN])),
]
"""Data sets, spread of each candidate between them, candidates, groups."""
LEAD = 0.05
"""Of the champion over all others, in the experiments that tell the power."""


@dataclass(frozen=True)
class Measured:
    """Shares of experiments.

    Attributes:
        these, like_these: all intervals of the claim hold the truth.
        alarms_these, alarms_like_these: some difference is declared that is none, or the other way
            round; candidates are equally good on average, and with a spread not on each data set.
        found: share of rivals behind by `LEAD` that the claim on data sets like these finds.
    """

    these: float
    like_these: float
    alarms_these: float
    alarms_like_these: float
    found: float


def experiment(
    number: int,
    spread: float,
    candidates: int,
    groups: tuple[int, ...],
    lead: float,
    rng: np.random.Generator,
) -> tuple[list[Across], np.ndarray]:
    """Several data sets, and the true differences (K, P) on each: what a candidate is better or
    worse by on a data set is drawn for each anew."""
    first, second = np.arange(1, candidates), np.zeros(candidates - 1, int)
    parts, truth = [], []
    for at in range(number):
        case = Case(candidates, lead=lead, groups=groups[at % len(groups)])
        effects = rng.normal(0, spread, candidates)
        panel = simulated(case, rng, effects)
        own = spread_of(panel, first, second)
        gaps = panel.means[first] - panel.means[second]
        parts.append((gaps, own.error, own.degrees))
        truth.append(effects[1:] - effects[0] - lead)
    gaps, errors, degrees = map(np.array, zip(*parts, strict=True))
    seed = int(rng.integers(2**32))
    return compare_across(gaps, errors, degrees, 0.95, 600, seed), np.array(truth)


def measure(
    number: int, spread: float, candidates: int, groups: tuple[int, ...], experiments: int
) -> Measured:
    """Simulate a case again and again."""
    rng = np.random.default_rng([number, candidates, int(1000 * spread), len(groups)])
    counts = np.zeros(4)
    found = 0.0
    for _ in range(experiments):
        across, truth = experiment(number, spread, candidates, groups, 0.0, rng)
        these = [one.these for one in across]
        like = [one.like_these for one in across if one.like_these]
        counts += [
            _covers(these, truth.mean(axis=0)),
            _covers(like, np.zeros(candidates - 1)),
            _is_wrong(these, truth.mean(axis=0)),
            _is_wrong(like, np.zeros(candidates - 1)),
        ]
        led, _ = experiment(number, spread, candidates, groups, LEAD, rng)
        behind = [one.like_these for one in led if one.like_these]
        found += float(np.mean([one.p < 0.05 and one.interval.mean < 0 for one in behind]))
    return Measured(*(counts / experiments).tolist(), found / experiments)


def _covers(claims: list[Claim], truth: np.ndarray) -> bool:
    return all(
        one.interval.low <= true <= one.interval.high
        for one, true in zip(claims, truth, strict=True)
    )


def _is_wrong(claims: list[Claim], truth: np.ndarray) -> bool:
    return any(
        one.p < 0.05 and one.interval.mean * true <= 0
        for one, true in zip(claims, truth, strict=True)
    )


def main(experiments: int, path: Path) -> None:
    lines = [
        "| data sets | groups | spread | candidates | these | like these | alarms, these "
        "| alarms, like these | found |",
        f"|{'--:|' * 9}",
    ]
    for number, spread, candidates, groups in CASES:
        one = measure(number, spread, candidates, groups, experiments)
        values = one.these, one.like_these, one.alarms_these, one.alarms_like_these, one.found
        cells = " | ".join(f"{100 * value:.1f}" for value in values)
        lines.append(
            f"| {number} | {', '.join(map(str, groups))} | {spread:g} | {candidates} | {cells} |"
        )
        print(lines[-1], flush=True)
    text = path.read_text()
    head, tail = text.index("| data sets | groups |"), text.rindex("|\n") + 2
    path.write_text(text[:head] + "\n".join(lines) + "\n" + text[tail:])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
