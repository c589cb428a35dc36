"""Seconds and memory of all statistics of a large comparison, validation and test.

12 candidates x 5 seeds x 1,000 images in 100 groups and in 1,000, with 10,000 resamples, and 100
candidates x 3 seeds x 1,000 images in 100 groups.

    python benchmarks/comparison.py
"""

import json
import resource
import time
from itertools import combinations

import numpy as np

from segbench.comparison.statistics.differences import compare
from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.power import resolvable
from segbench.comparison.statistics.seeds import stability, unstable
from segbench.comparison.statistics.uncertainty import (
    best_probabilities,
    drawn_means,
    intervals,
    selection_optimism,
)

SIZES = {
    "12 x 5, 100 groups": (12, 5, 100),
    "12 x 5, 1,000": (12, 5, 1000),
    "100 x 3, 100": (100, 3, 100),
}
"""Candidates, seeds and groups."""
IMAGES, RESAMPLES = 1000, 10_000


def everything(scores: np.ndarray, groups: np.ndarray) -> None:
    """What a comparison asks of validation and of test."""
    folds, number = np.zeros(len(groups), int), len(scores)
    val, test = (Panel(scores, groups, folds) for _ in range(2))
    selection_optimism(val.means, drawn_means(val, RESAMPLES, 0, tails=False))
    intervals(val, 0.95)
    intervals(test, 0.95)
    best_probabilities(drawn_means(test, RESAMPLES, 0))
    to_champion = np.array([(at, 0) for at in range(1, number)])
    every = np.array(list(combinations(range(number), 2)))
    for one in compare(test, to_champion, 0.95, RESAMPLES, 0):
        resolvable(one)
    compare(test, every, 0.95, RESAMPLES, 0)
    stability(test.seed_means)
    unstable(test.seed_means, 0.05)


def main() -> None:
    found: dict[str, float] = {}
    for name, (candidates, seeds, number) in SIZES.items():
        scores = np.random.default_rng(0).beta(8, 2, (candidates, seeds, IMAGES))
        groups = (np.arange(IMAGES) % number).astype(str)
        started = time.perf_counter()
        everything(scores, groups)
        found[name] = time.perf_counter() - started
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = ", ".join(f"{seconds:.1f} s ({name})" for name, seconds in found.items())
    print(f"statistics of {IMAGES} images, {RESAMPLES} resamples: {said}; {most:.0f} MiB")
    print(json.dumps({"bench": {**found, "peak_mib": most}}))


if __name__ == "__main__":
    main()
