"""Leaderboard: who leads, by how much, and how sure that is; from the rows of all runs."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.comparison.statistics import (
    Difference,
    Interval,
    Panel,
    Stability,
    VarianceSplit,
    best_probabilities,
    shared_ranks,
    stability,
    variance_split,
    winners_curse,
)
from segbench.evaluation.results import RunResult, score_array
from segbench.metrics.catalogue import DEFINITIONS, MASK_METRICS, VARIANTS
from segbench.params import Params
from segbench.params.model import Candidate

POOLED = (
    *(f"{score}_micro" for score in ("dice", "iou", "precision", "recall")),
    "dice_soft_batch",
)
RANDOM_SEED = 0
"""Seed of resampling and permutations, fixed so that results are reproducible."""


@dataclass(frozen=True)
class LeaderboardRow:
    """One candidate on the leaderboard; scores are means over images and runs.

    Attributes:
        rank: 1 plus the number of candidates that are significantly better on test; candidates that
            cannot be told apart share one.
        alias, encoder, weights: who it is.
        parameters: of the whole network.
        num_runs: folds x seeds.
        val, test: the ranking score, with its interval.
        seeds: the same on test for each seed.
        p_best: probability that no other is better on test; NaN with one group of images, and for
            a candidate without others.
        difference_to_champion: on the same test images; None for the champion.
        scores: every metric per image on test, with the endings of `metrics.catalogue.VARIANTS`.
        pooled: of the pixels of all test images, and the soft dice of batches; means over runs.
        split: where the spread of its test scores comes from.
    """

    rank: int
    alias: str
    encoder: str
    weights: str
    parameters: int
    num_runs: int
    val: Interval
    test: Interval
    seeds: list[float]
    p_best: float
    difference_to_champion: Difference | None
    scores: dict[str, float]
    pooled: dict[str, float]
    split: VarianceSplit


@dataclass(frozen=True)
class Leaderboard:
    """The candidates in order, and what holds of all of them.

    Attributes:
        rows: best on validation first, so that the champion is the first.
        differences: on test, by pair of numbers of rows (i, j), i < j.
        num_groups, num_seeds: of the test images, and of each candidate.
        min_detectable_difference: the median over pairs; NaN with one candidate.
        winners_curse: by how much the champion's validation score is optimistic for having been the
            best.
        stability: of the order on test, over seeds.
    """

    rows: list[LeaderboardRow]
    differences: dict[tuple[int, int], Difference]
    num_groups: int
    num_seeds: int
    min_detectable_difference: float
    winners_curse: float
    stability: Stability

    @property
    def aliases(self) -> list[str]:
        """The candidates in order."""
        return [row.alias for row in self.rows]

    @property
    def pairwise(self) -> list[list[Difference | None]]:
        """The differences as a square, row minus column; None on the diagonal."""
        numbers = range(len(self.rows))
        return [
            [
                None if i == j else self.differences.get((i, j)) or self.differences[j, i].turned
                for j in numbers
            ]
            for i in numbers
        ]


def make_leaderboard(params: Params, runs: list[RunResult]) -> Leaderboard:
    """Order the candidates by validation, and judge the order by test."""
    chosen = params.comparison
    listed = list(chosen.candidates)
    unordered = Panel(*score_array(runs, listed, "val", chosen.metric))
    order = np.argsort(-np.nan_to_num(unordered.means, nan=-1.0), kind="stable")
    aliases = [listed[at] for at in order]
    val = Panel(*score_array(runs, aliases, "val", chosen.metric))
    scores, groups = score_array(runs, aliases, "test", chosen.metric)
    test = Panel(scores, groups)
    val_means, test_means = (
        panel.resampled_means(chosen.num_resamples, RANDOM_SEED) for panel in (val, test)
    )
    pairs = test.differences(test_means, chosen.confidence, RANDOM_SEED)
    ranks = shared_ranks(len(aliases), pairs, 1 - chosen.confidence)
    p_best = [np.nan] * len(aliases)
    if test.num_groups > 1 and len(aliases) > 1:
        p_best = best_probabilities(test_means).tolist()
    rows = []
    for at, alias in enumerate(aliases):
        own = [run for run in runs if run.alias == alias]
        val_mean = val.interval(val_means[:, at], at, chosen.confidence)
        test_mean = test.interval(test_means[:, at], at, chosen.confidence)
        rows.append(
            LeaderboardRow(
                rank=ranks[at],
                alias=alias,
                encoder=params.candidates[alias].encoder,
                weights=_weights_name(params.candidates[alias]),
                parameters=own[0].summary["parameters"],
                num_runs=len(own),
                val=_within_bounds(val_mean),
                test=_within_bounds(test_mean),
                seeds=test.seed_means[at].tolist(),
                p_best=float(p_best[at]),
                difference_to_champion=pairs[0, at].turned if at else None,
                scores=_scores_per_image(own),
                pooled=_pooled_scores(own),
                split=variance_split(scores[at]),
            )
        )
    detectable = [pair.min_detectable_difference for pair in pairs.values()]
    return Leaderboard(
        rows=rows,
        differences=pairs,
        num_groups=test.num_groups,
        num_seeds=test.num_seeds,
        min_detectable_difference=float(np.median(detectable)) if pairs else np.nan,
        winners_curse=winners_curse(val.means, val_means),
        stability=stability(test.seed_means),
    )


def per_image(column: str) -> str:
    """What a column of the rows of images is called as a mean over them, in tables and
    requirements: dice_per_image_chosen of dice_chosen."""
    metric = next(
        metric for metric in DEFINITIONS if re.fullmatch(f"{metric}({'|'.join(VARIANTS)})", column)
    )
    return f"{metric}_per_image{column.removeprefix(metric)}"


def _within_bounds(found: Interval) -> Interval:
    """What ranks lies in [0, 1], and so does its mean."""
    return Interval(found.mean, *(float(np.clip(bound, 0, 1)) for bound in (found.low, found.high)))


def _scores_per_image(runs: list[RunResult]) -> dict[str, float]:
    columns = [f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS]
    rows = pd.concat([run.images for run in runs])
    means = rows[rows["split"] == "test"][[*columns, "average_precision"]].mean()
    return {str(name): float(value) for name, value in means.items()}


def _pooled_scores(runs: list[RunResult]) -> dict[str, float]:
    """Means over runs; NaN where a run has no score, which JSON writes as null."""
    return {
        name: float(np.mean([np.nan if score is None else score for score in scores]))
        for name in POOLED
        if (scores := [run.summary[f"test/{name}"] for run in runs])
    }


def _weights_name(candidate: Candidate) -> str:
    if candidate.weights_sha256 is None:
        return "from scratch" if candidate.from_scratch else candidate.weights
    return f"{Path(candidate.weights).name} ({candidate.weights_sha256[:8]})"
