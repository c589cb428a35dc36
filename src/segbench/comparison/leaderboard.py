"""Standings: who leads, by how much, and how sure that is; from the rows of all runs."""

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
    optimism,
    shared_ranks,
    stability,
    variance_split,
)
from segbench.evaluation.results import Evaluated, scores_of
from segbench.metrics.catalogue import DEFINITIONS, MASK_METRICS, VARIANTS
from segbench.params import Params
from segbench.params.model import Candidate

POOLED = (
    *(f"{score}_micro" for score in ("dice", "iou", "precision", "recall")),
    "dice_soft_batch",
)
RANDOM_SEED = 0
"""Of resampling and permutations; a result must not change when it is looked at again."""


@dataclass(frozen=True)
class Row:
    """One candidate on the leaderboard; scores are means over images and runs.

    Attributes:
        rank: 1 and how many are better on test for certain; shared by what cannot be told apart.
        alias, encoder, weights: who it is.
        parameters: of the whole network.
        num_runs: folds x seeds.
        val, test: the ranking score, with its interval.
        seeds: the same on test for each seed.
        best: how probable it is that no other is better on test; NaN with one group of images.
        behind: the difference to the champion on the same test images; None for the champion.
        scores: every metric per image on test, with the endings of `scoring.VARIANTS`.
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
    best: float
    behind: Difference | None
    scores: dict[str, float]
    pooled: dict[str, float]
    split: VarianceSplit


@dataclass(frozen=True)
class Standings:
    """All of them.

    Attributes:
        rows: best on validation first, so that the champion is the first.
        differences: on test, by pair of numbers of rows (i, j), i < j.
        num_groups, num_seeds: of the test images, and of each candidate.
        resolvable: the smallest difference that the test set can resolve, the median over pairs;
            NaN with one candidate.
        flattery: by how much the champion's validation score is too good for having been the best.
        stability: of the order on test, over seeds.
    """

    rows: list[Row]
    differences: dict[tuple[int, int], Difference]
    num_groups: int
    num_seeds: int
    resolvable: float
    flattery: float
    stability: Stability


def standings(params: Params, runs: list[Evaluated]) -> Standings:
    """Order the candidates by validation, and judge the order by test."""
    chosen = params.comparison
    listed = list(chosen.candidates)
    val = Panel(*scores_of(runs, listed, "val", chosen.metric))
    order = [int(at) for at in np.argsort(-np.nan_to_num(val.means, nan=-1.0), kind="stable")]
    aliases = [listed[at] for at in order]
    val = Panel(*scores_of(runs, aliases, "val", chosen.metric))
    scores, groups = scores_of(runs, aliases, "test", chosen.metric)
    test = Panel(scores, groups)
    val_means, means = (
        panel.resampled_means(chosen.num_resamples, RANDOM_SEED) for panel in (val, test)
    )
    found = test.differences(means, chosen.confidence, RANDOM_SEED)
    ranks = shared_ranks(len(aliases), found, 1 - chosen.confidence)
    best = best_probabilities(means) if test.num_groups > 1 else np.full(len(aliases), np.nan)
    rows = []
    for at, alias in enumerate(aliases):
        own = [run for run in runs if run.alias == alias]
        rows.append(
            Row(
                rank=ranks[at],
                alias=alias,
                encoder=params.candidates[alias].encoder,
                weights=_weights_name(params.candidates[alias]),
                parameters=own[0].summary["parameters"],
                num_runs=len(own),
                val=_within_bounds(val.interval(val_means[:, at], at, chosen.confidence)),
                test=_within_bounds(test.interval(means[:, at], at, chosen.confidence)),
                seeds=test.seed_means[at].tolist(),
                best=float(best[at]),
                behind=found[0, at].turned if at else None,
                scores=_all_scores(runs, alias),
                pooled={
                    name: float(np.mean([_number(run.summary[f"test/{name}"]) for run in own]))
                    for name in POOLED
                },
                split=variance_split(scores[at]),
            )
        )
    return Standings(
        rows,
        found,
        test.num_groups,
        test.num_seeds,
        float(np.median([pair.resolvable for pair in found.values()])) if found else np.nan,
        optimism(val.means, val_means),
        stability(test.seed_means),
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


def _all_scores(runs: list[Evaluated], alias: str) -> dict[str, float]:
    columns = [f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS]
    rows = pd.concat([run.images for run in runs if run.alias == alias])
    means = rows[rows["split"] == "test"][[*columns, "average_precision"]].mean()
    return {str(name): float(value) for name, value in means.items()}


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _weights_name(candidate: Candidate) -> str:
    if candidate.weights_sha256 is None:
        return {"none": "from scratch"}.get(candidate.weights, candidate.weights)
    return f"{Path(candidate.weights).name} ({candidate.weights_sha256[:8]})"
