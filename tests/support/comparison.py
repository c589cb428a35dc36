"""Runs of a comparison that nobody trained."""

from typing import Any

import numpy as np
import pandas as pd

from segbench.comparison.leaderboard import POOLED
from segbench.evaluation.costs import Cost, Spread
from segbench.evaluation.results import Evaluated
from segbench.metrics.catalogue import MASK_METRICS, VARIANTS

COST = Cost("", 10**6, 10**9, 4 * 10**6, Spread(5, 4, 6), Spread(9, 8, 10), 100.0)


def evaluated(alias: str, seed: int, val: float, test: float, groups: int = 30) -> Evaluated:
    """A run whose images score around the given means, in groups of two."""
    shared = np.random.default_rng(0)  # images are as hard for one candidate as for another
    own = np.random.default_rng([len(alias), seed])
    columns = [f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS]
    parts = []
    for split, mean in (("test", test), ("val", val)):
        number = 2 * groups
        scores = mean + shared.normal(0, 0.05, number) + own.normal(0, 0.005, number)
        part = pd.DataFrame(dict.fromkeys([*columns, "average_precision"], scores.clip(0, 1)))
        part["split"], part["stratum"] = split, [("far", "near")[at % 2] for at in range(number)]
        part["id"] = [f"i{at:03d}" for at in range(number)]
        part["group"] = [f"g{at // 2:03d}" for at in range(number)]
        part["object_size"] = np.linspace(0, 0.3, number)
        part["num_objects"] = np.arange(number) % 5
        parts.append(part)
    pooled = {f"test/{name}": test for name in POOLED}
    summary: dict[str, Any] = {"parameters": 10, **pooled, "sha256": {}}
    name = f"{alias}-fold0-seed{seed}"
    return Evaluated(name, alias, 0, seed, summary, pd.concat(parts), pd.DataFrame(), {})
