"""What the report's claims are worth, by simulation: coverage, false alarms, power, sureness.

PYTHONPATH=src:tests python -m support.coverage 1000

writes the table of docs/coverage.md, and that which reports quote.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.comparison.coverage import TABLE
from segbench.comparison.statistics.differences import compare
from segbench.comparison.statistics.panel import FEWEST_SEEDS, Design, Floats, Panel, design_of
from segbench.comparison.statistics.uncertainty import (
    best_probabilities,
    drawn_means,
    intervals,
)
from support.simulation import TRUTH, Case, simulated

ONE = Case(seeds=1, of_seeds=0)
"""The claim is about the trained networks, which are equally good here."""
FOLDS = Case(folds=5, seeds=1)
CASES = {
    "1 seed, 4 groups": replace(ONE, groups=4),
    "1 seed, 9 groups": replace(ONE, groups=9),
    "1 seed, 25 groups": ONE,
    "1 seed, 100 groups": replace(ONE, groups=100),
    "1 seed, 61 groups of an image": replace(ONE, groups=61, sizes="one"),
    "1 seed, 12 groups, unequal": replace(ONE, groups=12, sizes="lognormal"),
    "1 seed, 25 groups, unequal": replace(ONE, sizes="lognormal"),
    "1 seed, 9 groups, found or missed": replace(ONE, groups=9, sizes="lognormal", bimodal=True),
    "1 seed, 25 groups, found or missed": replace(ONE, sizes="lognormal", bimodal=True),
    "1 seed, 4 scored and 16 empty groups": replace(ONE, groups=20, without_score=16),
    "1 seed, 2 candidates": replace(ONE, candidates=2),
    "1 seed, 12 candidates": replace(ONE, candidates=12),
    "1 seed, 30 candidates": replace(ONE, candidates=30),
    "2 seeds": replace(ONE, seeds=2),
    "3 seeds, 25 groups": Case(),
    "5 seeds, 25 groups": Case(seeds=5),
    "3 seeds, 100 groups": Case(groups=100),
    "3 seeds, 4 groups": replace(ONE, seeds=3, groups=4, sizes="equal"),
    "3 seeds, 9 groups": Case(groups=9, sizes="equal"),
    "3 seeds, 9 groups, unequal": Case(groups=9, sizes="lognormal"),
    "3 seeds, 12 groups, one holds half": replace(ONE, seeds=3, groups=12, sizes="one holds half"),
    "3 seeds that dominate": Case(of_seeds=0.05),
    "3 seeds, one unstable": Case(unstable=True),
    "5 seeds, one unstable": Case(seeds=5, unstable=True),
    "3 seeds, one of 2 unstable": Case(candidates=2, unstable=True),
    "3 seeds, one of 12 unstable": Case(candidates=12, unstable=True),
    "3 seeds, 2 candidates": Case(candidates=2),
    "3 seeds, 12 candidates": Case(candidates=12),
    "3 seeds, 30 candidates": Case(candidates=30),
    "3 seeds, 9 groups, found or missed": replace(ONE, seeds=3, groups=9, bimodal=True),
    "3 seeds, 25 groups, found or missed": replace(ONE, seeds=3, sizes="lognormal", bimodal=True),
    "3 seeds, 50 groups, found or missed": Case(groups=50, bimodal=True),
    "3 seeds, 9 scored and 16 empty groups": Case(without_score=16),
    "3 seeds, shared by all": Case(shared=0.7),
    "3 folds": Case(folds=3, seeds=1),
    "5 folds": FOLDS,
    "5 folds, 9 groups": replace(FOLDS, groups=9),
    "5 folds, found or missed": replace(FOLDS, sizes="lognormal", bimodal=True),
    "5 folds, 2 candidates, by 0.015": replace(FOLDS, candidates=2, of_training_sets=0.015),
    "10 folds, by 0.015": Case(folds=10, seeds=1, groups=50, of_training_sets=0.015),
    "5 folds, training sets differ by 0.015": replace(FOLDS, of_training_sets=0.015),
    "5 folds x 3 seeds, by 0.015": Case(folds=5, of_training_sets=0.015),
    "5 folds x 3 seeds, by 0.03": Case(folds=5, of_training_sets=0.03),
    "5 folds x 3 seeds, 100 groups, by 0.03": Case(folds=5, groups=100, of_training_sets=0.03),
    "5 folds, 12 candidates, by 0.015": replace(FOLDS, candidates=12, of_training_sets=0.015),
}

LEAD = 0.06


@dataclass(frozen=True)
class Measured:
    """Shares of experiments.

    Attributes:
        design: what the report claims.
        together: all intervals of differences to the first candidate hold the truth.
        means: the interval of its mean does; NaN where the truth is not known.
        alarms: some false difference is declared.
        found: of the others' true differences to a first candidate that leads by `LEAD`.
        sure, right: of reports in which one candidate is the best with at least 95 %, how many
            there are, and in how many it is; candidates differ by 0.02 there.
    """

    design: Design
    together: float
    means: float
    alarms: float
    found: float
    sure: float
    right: float


def claimed(case: Case) -> Design:
    """What the reports that are counted claim."""
    if case.folds > 1:
        return "folds"
    return "seeds" if case.seeds >= FEWEST_SEEDS and case.of_seeds else "one training"


def measure(case: Case, experiments: int, seed: int = 0) -> Measured:
    """Simulate a case again and again, those experiments aside that make another claim."""
    rng, claim = np.random.default_rng(seed), claimed(case)

    def simulate(case: Case, true: Floats | None = None) -> Panel:
        while design_of(panel := simulated(case, rng, true)) != claim:
            pass
        return panel

    pairs = np.array([(at, 0) for at in range(1, case.candidates)])
    together = means = alarms = sure = right = 0
    found_true: list[float] = []
    for trial in range(experiments):
        panel = simulate(case)
        found = compare(panel, pairs, 0.95, 600, trial)
        together += all(one.interval.low <= 0 <= one.interval.high for one in found)
        alarms += any(one.p < 0.05 for one in found)
        mean = intervals(panel, 0.95)[0]
        means += mean.low <= TRUTH <= mean.high
        leading = compare(simulate(replace(case, lead=LEAD)), pairs, 0.95, 600, trial)
        found_true.append(float(np.mean([one.p < 0.05 for one in leading])))
        true = rng.normal(0, 0.02, case.candidates)
        chances = best_probabilities(drawn_means(simulate(case, true), 600, trial))
        if chances.max() >= 0.95:
            sure += 1
            right += int(chances.argmax() == true.argmax())
    number = experiments
    return Measured(
        claim,
        together / number,
        np.nan if case.bimodal else means / number,
        alarms / number,
        float(np.mean(found_true)),
        sure / number,
        right / sure if sure else np.nan,
    )


def main(experiments: int) -> None:
    lines = ["| case | claims | differences | means | false alarms | found | sure | right |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|")
    every, rows = [], []
    for name, case in CASES.items():
        one = measure(case, experiments)
        every.append(one)
        values = (one.together, one.means, one.alarms, one.found, one.sure, one.right)
        cells = ["-" if np.isnan(value) else f"{100 * value:.1f}" for value in values]
        lines.append(f"| {name} | {one.design} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        rows.append(
            {
                "name": name,
                "claims": one.design,
                "candidates": case.candidates,
                "seeds": case.seeds,
                "folds": case.folds,
                "groups": round(typical_groups(case), 1),
                "unstable": case.unstable,
                "misses": case.bimodal,
                "covered": round(one.together, 4),
                "false_alarms": round(one.alarms, 4),
            }
        )
    number = sum(one.sure for one in every)
    right = sum(one.sure * one.right for one in every if one.sure)
    print(f"all: of reports that are sure {100 * right / number:.1f} % are right")
    pd.DataFrame(rows).to_csv(TABLE, index=False, lineterminator="\n")
    path = Path("docs/coverage.md")
    text = path.read_text()
    head, tail = text.index("| case |"), text.rindex("|\n") + 2
    path.write_text(text[:head] + "\n".join(lines) + "\n" + text[tail:])


def typical_groups(case: Case) -> float:
    """How many groups of equal size would weigh as evenly, the median of 200 experiments."""
    rng, claim = np.random.default_rng(0), claimed(case)
    few = replace(case, candidates=1)
    drawn = (simulated(few, rng) for _ in range(200))
    return float(np.median([one.groups.effective[0] for one in drawn if design_of(one) == claim]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
