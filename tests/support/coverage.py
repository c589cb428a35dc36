"""What the report's claims are worth, by simulation: coverage, false alarms, sureness.

PYTHONPATH=src:tests python -m support.coverage 1000 docs/coverage.md
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segbench.comparison.statistics.differences import compare
from segbench.comparison.statistics.panel import design_of
from segbench.comparison.statistics.uncertainty import (
    best_probabilities,
    drawn_means,
    intervals,
)
from support.simulation import TRUTH, Case, simulated

ONE = Case(seeds=1, of_seeds=0)
"""One training: the claim is about its networks, which are equally good here."""
FOLDS = Case(folds=5, seeds=1)
CASES = {
    "1 seed, 25 groups": ONE,
    "1 seed, 61 groups of an image": replace(ONE, groups=61, sizes="one"),
    "1 seed, 12 groups, unequal": replace(ONE, groups=12, sizes="lognormal"),
    "1 seed, 25 groups, unequal": replace(ONE, sizes="lognormal"),
    "1 seed, 9 groups, found or missed": replace(ONE, groups=9, sizes="lognormal", bimodal=True),
    "1 seed, 25 groups, found or missed": replace(ONE, sizes="lognormal", bimodal=True),
    "1 seed, 12 candidates": replace(ONE, candidates=12),
    "2 seeds": replace(ONE, seeds=2),
    "3 seeds, 25 groups": Case(),
    "5 seeds, 25 groups": Case(seeds=5),
    "3 seeds, 100 groups": Case(groups=100),
    "3 seeds, 9 groups": Case(groups=9, sizes="equal"),
    "3 seeds, 9 groups, unequal": Case(groups=9, sizes="lognormal"),
    "3 seeds, 12 groups, one holds half": Case(groups=12, sizes="one holds half"),
    "3 seeds that dominate": Case(of_seeds=0.05),
    "3 seeds, one unstable": Case(unstable=True),
    "5 seeds, one unstable": Case(seeds=5, unstable=True),
    "3 seeds, one of 2 unstable": Case(candidates=2, unstable=True),
    "3 seeds, one of 12 unstable": Case(candidates=12, unstable=True),
    "3 seeds, 2 candidates": Case(candidates=2),
    "3 seeds, 12 candidates": Case(candidates=12),
    "3 seeds, 30 candidates": Case(candidates=30),
    "3 seeds, 9 groups, found or missed": Case(groups=9, bimodal=True),
    "3 seeds, 25 groups, found or missed": Case(sizes="lognormal", bimodal=True),
    "3 seeds, 9 scored and 16 empty groups": Case(without_score=16),
    "3 seeds, shared by all": Case(shared=0.7),
    "5 folds": FOLDS,
    "5 folds, training sets differ by 0.015": replace(FOLDS, of_training_sets=0.015),
    "5 folds x 3 seeds, by 0.015": Case(folds=5, of_training_sets=0.015),
    "5 folds x 3 seeds, by 0.03": Case(folds=5, of_training_sets=0.03),
    "5 folds x 3 seeds, 100 groups, by 0.03": Case(folds=5, groups=100, of_training_sets=0.03),
    "5 folds, 12 candidates, by 0.015": replace(FOLDS, candidates=12, of_training_sets=0.015),
}


@dataclass(frozen=True)
class Measured:
    """Shares of experiments.

    Attributes:
        design: what the report claims.
        together: all intervals of differences to the first candidate hold the truth.
        means: the interval of its mean does; NaN where the truth is not known.
        alarms: some false difference is declared.
        sure, right: of reports in which one candidate is the best with at least 95 %, how many
            there are, and in how many it is; candidates differ by 0.02 there.
    """

    design: str
    together: float
    means: float
    alarms: float
    sure: float
    right: float


def measure(case: Case, experiments: int, seed: int = 0) -> Measured:
    """Simulate a case again and again."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(at, 0) for at in range(1, case.candidates)])
    together = means = alarms = sure = right = 0
    for trial in range(experiments):
        panel = simulated(case, rng)
        found = compare(panel, pairs, 0.95, 600, trial)
        together += all(one.interval.low <= 0 <= one.interval.high for one in found)
        alarms += any(one.p < 0.05 for one in found)
        mean = intervals(panel, 0.95)[0]
        means += mean.low <= TRUTH <= mean.high
        true = rng.normal(0, 0.02, case.candidates)
        chances = best_probabilities(drawn_means(simulated(case, rng, true), 600, trial))
        if chances.max() >= 0.95:
            sure += 1
            right += int(chances.argmax() == true.argmax())
    number = experiments
    return Measured(
        design_of(panel),
        together / number,
        np.nan if case.bimodal else means / number,
        alarms / number,
        sure / number,
        right / sure if sure else np.nan,
    )


def main(experiments: int, path: Path) -> None:
    lines = ["| case | claims | differences | means | false alarms | sure | right |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|")
    every = []
    for name, case in CASES.items():
        one = measure(case, experiments)
        every.append(one)
        values = (one.together, one.means, one.alarms, one.sure, one.right)
        cells = ["-" if np.isnan(value) else f"{100 * value:.1f}" for value in values]
        lines.append(f"| {name} | {one.design} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    number = sum(one.sure for one in every)
    right = sum(one.sure * one.right for one in every if one.sure)
    print(f"all: of reports that are sure {100 * right / number:.1f} % are right")
    text = path.read_text()
    head, tail = text.index("| case |"), text.rindex("|\n") + 2
    path.write_text(text[:head] + "\n".join(lines) + "\n" + text[tail:])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
