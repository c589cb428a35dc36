"""Seconds and memory of all statistics of a large comparison.

12 candidates x 5 seeds x 1,000 images in 100 groups and in 1,000, with 10,000 resamples.

    python benchmarks/comparison.py
"""

import json
import resource
import time

import numpy as np

from segbench.comparison.statistics import (
    Panel,
    best_probabilities,
    shared_ranks,
    stability,
    variance_split,
    winners_curse,
)

CANDIDATES, SEEDS, IMAGES, RESAMPLES = 12, 5, 1000, 10_000


def everything(scores: np.ndarray, groups: np.ndarray) -> None:
    """What a comparison asks of validation and of test."""
    for _ in ("val", "test"):
        panel = Panel(scores, groups)
        means = panel.resampled_means(RESAMPLES, 0)
        for at in range(CANDIDATES):
            panel.interval(means[:, at], at, 0.95)
            variance_split(scores[at])
        shared_ranks(CANDIDATES, panel.differences(means, 0.95, 0), 0.05)
        best_probabilities(means)
        winners_curse(panel.means, means)
        stability(panel.seed_means)


def main() -> None:
    scores = np.random.default_rng(0).beta(8, 2, (CANDIDATES, SEEDS, IMAGES))
    found: dict[str, float] = {}
    for number in (100, IMAGES):
        groups = (np.arange(IMAGES) % number).astype(str)
        started = time.perf_counter()
        everything(scores, groups)
        found[f"seconds_{number}_groups"] = time.perf_counter() - started
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"statistics of {CANDIDATES} candidates x {SEEDS} seeds x {IMAGES} images, {RESAMPLES} "
        f"resamples, validation and test: {found['seconds_100_groups']:.1f} s in 100 groups, "
        f"{found[f'seconds_{IMAGES}_groups']:.1f} s in {IMAGES}, {found['peak_mib']:.0f} MiB"
    )
    print(json.dumps({"bench": found}))


if __name__ == "__main__":
    main()
