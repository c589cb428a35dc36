"""Which simulated design is nearest to a comparison, and how often the report was right there.

coverage.csv is made by simulation, see docs/coverage.md.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.comparison.statistics.panel import Design, Panel, design_of

TABLE = Path(__file__).with_name("coverage.csv")
OTHER_KIND = 1.0
"""How far off a case is that has misses or an unstable candidate where this design has none, or the
other way round; in the same units as a factor e in the number of groups."""


@dataclass(frozen=True)
class SimulatedCase:
    """A row of the table; shares of simulated experiments.

    Attributes:
        name: of the case.
        candidates, seeds, folds: of the design.
        groups: as many of equal size would weigh as evenly.
        unstable: one candidate's trainings differ more than those of the others.
        misses: images are found or missed.
        covered: all intervals of differences held the truth.
        false_alarms: some difference was declared that is none.
        distance: to the design that was asked for.
    """

    name: str
    candidates: int
    seeds: int
    folds: int
    groups: float
    unstable: bool
    misses: bool
    covered: float
    false_alarms: float
    distance: float


@cache
def _table() -> pd.DataFrame:
    return pd.read_csv(TABLE)


def nearest_case(panel: Panel, unstable: bool) -> SimulatedCase:
    """The simulated case that is most like a comparison, among those that make the same claim.

    Of several that are equally near, the one with most false alarms.

    Args:
        panel: its test scores.
        unstable: a candidate's seeds differ more than those of the others.
    """
    design: Design = design_of(panel)
    table = _table()
    table = table[table["claims"] == design]
    own = {
        "candidates": len(panel.means),
        "seeds": panel.num_seeds,
        "folds": panel.num_folds,
        "groups": float(panel.groups.effective.min()),
    }
    apart = sum(np.abs(np.log(table[name] / number)) for name, number in own.items())
    apart = apart + OTHER_KIND * (
        (table["unstable"] != unstable).astype(float) + (table["misses"] != panel.has_misses)
    )
    table = table.assign(distance=apart.round(9))
    ordered = table.sort_values(["distance", "false_alarms"], ascending=[True, False])
    # Through objects, so that values are Python's own.
    return SimulatedCase(**ordered.astype(object)[[*SimulatedCase.__annotations__]].iloc[0])


FAR = 1.2
"""Distance from which the nearest case is said not to be near: 30 groups for 9, or twice the
candidates and twice the groups."""


def describe(case: SimulatedCase) -> str:
    """What was simulated and found, in a sentence."""
    trainings = f"{case.folds} folds, " * (case.folds > 1)
    trainings += f"{case.seeds} seed{'' if case.seeds == 1 else 's'}"
    kinds = [
        text
        for text, holds in (
            ("one candidate unstable", case.unstable),
            ("many images missed altogether", case.misses),
        )
        if holds
    ]
    like = ", ".join([trainings, f"{case.candidates} candidates", *kinds])
    far = ", which is not very near" * (case.distance > FAR)
    return (
        f"Checked by simulation: of experiments with {like} and test groups that weigh as "
        f"{case.groups:.0f} of equal size (the nearest case of docs/coverage.md{far}), all "
        f"intervals of differences held the truth in {100 * case.covered:.1f} %, and a false "
        f"difference was declared in {100 * case.false_alarms:.1f} %."
    )
