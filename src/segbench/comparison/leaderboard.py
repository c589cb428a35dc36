"""Leaderboard: who leads, by how much, and how sure that is; from the rows of all runs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.comparison.coverage import SimulatedCase, nearest_case
from segbench.comparison.ranking import Ranking, mean_of, ranking_of
from segbench.comparison.scores import score_array, upward
from segbench.comparison.statistics.decisions import (
    Relation,
    probability_not_worse,
    relation_of,
)
from segbench.comparison.statistics.differences import Difference, Interval, compare
from segbench.comparison.statistics.panel import Design, GroupLimit, Panel, design_of, group_limit
from segbench.comparison.statistics.planning import Variances, variances_of
from segbench.comparison.statistics.power import resolvable
from segbench.comparison.statistics.seeds import Stability, stability, unstable
from segbench.comparison.statistics.uncertainty import (
    best_probabilities,
    choice_of_epoch,
    drawn_means,
    intervals,
    selection_optimism,
)
from segbench.evaluation.results import RunResult
from segbench.metrics.catalogue import DEFINITIONS, MASK_METRICS, VARIANTS
from segbench.metrics.counts import MEANS_OF_CLASSES
from segbench.params import Params
from segbench.params.compare import Comparison
from segbench.params.metric_names import parts_of
from segbench.params.model import Candidate

POOLED = (
    *(f"{score}_micro" for score in ("dice", "iou", "precision", "recall")),
    "dice_soft_batch",
    *MEANS_OF_CLASSES.values(),
)
RANDOM_SEED = 0
"""Seed of resampling and permutations, fixed so that results are reproducible."""


@dataclass(frozen=True)
class LeaderboardRow:
    """One candidate on the leaderboard; scores are means over images and runs.

    Attributes:
        rank: 1 plus the number of candidates that are significantly better on test, by the test
            against the champion where it is one of the two, else by that of all pairs; candidates
            that cannot be told apart share one.
        alias, encoder, weights: who it is.
        parameters: of the whole network.
        num_runs: folds x seeds.
        val, test: the ranking score, with its interval.
        seeds: the same on test for each seed.
        p_best: probability that no other is better on test; NaN with one group of images, and for
            a candidate without others.
        difference_to_champion: on the same test images, this candidate's score minus the
            champion's; None for the champion.
        relation: what that difference says; None for the champion.
        p_not_worse: probability that it is not worse than the champion by as much as matters.
        scores: every metric per image on test, with the endings of `metrics.catalogue.VARIANTS`,
            and the one that ranks with those that it has.
        pooled: of the pixels of all test images, means over classes and `dice_class_<name>` too if
            there are several, and the soft dice of batches; means over runs.
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
    relation: Relation | None
    p_not_worse: float
    scores: dict[str, float]
    pooled: dict[str, float]


@dataclass(frozen=True)
class Leaderboard:
    """The candidates in order, and what holds of all of them.

    Attributes:
        ranking: the metric that ranks.
        rows: best on validation first, so that the champion is the first.
        differences: on test, by pair of numbers of rows (i, j), i < j; those to the champion are a
            family of their own.
        design: what lets trainings vary, and so what can be claimed.
        group_limit: why seeds cannot speak of trainings; None if they can.
        num_groups, num_seeds, num_folds: of the test images, and of each candidate.
        resolvable: the smallest true difference to the champion that is found in 80 of 100 such
            experiments, the median over candidates; infinite where none is; NaN with one candidate.
        winners_curse: by how much the champion's validation score is optimistic for having been the
            best.
        epoch_choice: by how much it is optimistic at most for the choice of the best epoch, mean
            over its runs; 0 where the last is kept, NaN where that cannot be told.
        stability: of the order on test, over seeds.
        unstable: candidates whose seeds differ more than those of the others.
        variances: of the differences to the champion; None where nothing can be said of them.
        simulated: the nearest design whose claims were checked; None where none is made.
    """

    ranking: Ranking
    rows: list[LeaderboardRow]
    differences: dict[tuple[int, int], Difference]
    design: Design
    group_limit: GroupLimit | None
    num_groups: int
    num_seeds: int
    num_folds: int
    resolvable: float
    winners_curse: float
    epoch_choice: float
    stability: Stability
    unstable: list[str]
    variances: Variances | None
    simulated: SimulatedCase | None

    @property
    def aliases(self) -> list[str]:
        """The candidates in order."""
        return [row.alias for row in self.rows]

    def gain(self, difference: Difference) -> Difference:
        """A difference such that above 0 is better, whichever way the metric goes."""
        return difference.negated if self.ranking.lower_is_better else difference

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
    """Order the candidates by validation, and judge the order by test.

    Points of learning curves, which are trained on less, do not compete.
    """
    chosen, listed, ranking = params.comparison, params.rivals, ranking_of(params)
    unordered = Panel(*upward(score_array(runs, listed, "val", ranking), ranking))
    order = np.argsort(-np.nan_to_num(unordered.means, nan=-np.inf), kind="stable")
    aliases = [listed[at] for at in order]
    of_val, of_test = (score_array(runs, aliases, split, ranking) for split in ("val", "test"))
    # Decisions are made of scores of which higher is better, and told of those that were measured.
    val, test = (Panel(*upward(scores, ranking)) for scores in (of_val, of_test))
    number, matters = len(aliases), ranking.matters
    is_tested = number > 1 and test.num_groups > 1
    to_champion, pairs = _differences(test, chosen)
    ranks = _shared_ranks(number, pairs, 1 - chosen.confidence)
    drawn = drawn_means(test, chosen.num_resamples, RANDOM_SEED)
    p_best = np.full(number, np.nan)
    if is_tested:
        p_best = best_probabilities(drawn)
    rows = []
    measured = Panel(*of_test)
    val_means, test_means = (
        intervals(panel, chosen.confidence, ranking.most) for panel in (Panel(*of_val), measured)
    )
    told = {pair: gap.negated if ranking.lower_is_better else gap for pair, gap in pairs.items()}
    for at, alias in enumerate(aliases):
        own = [run for run in runs if run.alias == alias]
        gap = to_champion[at - 1] if at else None
        rows.append(
            LeaderboardRow(
                rank=ranks[at],
                alias=alias,
                encoder=params.candidates[alias].encoder,
                weights=_weights_name(params.candidates[alias]),
                parameters=own[0].summary["parameters"],
                num_runs=len(own),
                val=val_means[at],
                test=test_means[at],
                seeds=measured.seed_means[at].tolist(),
                p_best=float(p_best[at]),
                difference_to_champion=told[0, at].turned if at else None,
                relation=relation_of(gap, chosen.confidence, matters) if gap else None,
                p_not_worse=probability_not_worse(drawn, at, 0, matters),
                scores=_scores_per_image(own, ranking),
                pooled=_pooled_scores(own),
            )
        )
    unsteady = unstable(test.seed_means, 1 - chosen.confidence)
    return Leaderboard(
        ranking=ranking,
        rows=rows,
        differences=told,
        design=design_of(test),
        group_limit=group_limit(test),
        num_groups=test.num_groups,
        num_seeds=test.num_seeds,
        num_folds=test.num_folds,
        resolvable=float(np.median([resolvable(gap) for gap in to_champion]))
        if to_champion
        else np.nan,
        winners_curse=selection_optimism(
            val.means, drawn_means(val, chosen.num_resamples, RANDOM_SEED, tails=False)
        ),
        epoch_choice=_choice_of_epoch(params, [run for run in runs if run.alias == aliases[0]]),
        stability=stability(test.seed_means),
        unstable=[aliases[at] for at in unsteady],
        variances=variances_of(test) if is_tested else None,
        simulated=nearest_case(test, bool(unsteady)) if is_tested else None,
    )


def _choice_of_epoch(params: Params, runs: list[RunResult]) -> float:
    """Optimism of the score that ranks, mean over runs; epochs are chosen by dice."""
    if params.train.keep != "best":
        return 0.0
    if params.rank_name != ("dice", ""):
        return np.nan
    number = params.comparison.num_resamples
    return float(
        np.mean(
            [
                choice_of_epoch(run.history["val_dice_per_image"].to_numpy(), number, RANDOM_SEED)
                for run in runs
            ]
        )
    )


def _differences(
    test: Panel, chosen: Comparison
) -> tuple[list[Difference], dict[tuple[int, int], Difference]]:
    """Those of all others to the champion, and of all pairs (i, j), i < j.

    Two families: the first answers what the comparison asks, so it alone decides on the champion;
    the second is as large as the number of pairs, and finds less.
    """
    numbers = range(len(test.means))
    every = list(combinations(numbers, 2))
    chances = chosen.confidence, chosen.num_resamples, RANDOM_SEED
    primary = compare(test, np.array([(at, 0) for at in numbers[1:]]), *chances)
    pairs = dict(zip(every, compare(test, np.array(every), *chances), strict=True))
    pairs |= {(0, gap.first): gap.turned for gap in primary}
    return primary, pairs


def _shared_ranks(
    number: int, pairs: Mapping[tuple[int, int], Difference], alpha: float
) -> list[int]:
    ranks = [1] * number
    for (i, j), found in pairs.items():
        if found.p < alpha:
            ranks[j if found.interval.mean > 0 else i] += 1
    return ranks


def per_image(column: str) -> str:
    """What a column of the rows of images is called as a mean over them, in tables and
    requirements: dice_per_image_chosen of dice_chosen."""
    name = parts_of(column)
    if name.is_pooled or name.weighted:
        return column  # which is none
    if name.by_class:
        return column.replace("dice", "dice_per_image", 1)
    metric = next(
        (name for name in DEFINITIONS if re.fullmatch(f"{name}({'|'.join(VARIANTS)})", column)),
        re.sub(f"({'|'.join(sorted(VARIANTS[1:], key=len)[::-1])})$", "", column),
    )
    return f"{metric}_per_image{column.removeprefix(metric)}"


def told_scores(row: LeaderboardRow) -> dict[str, float]:
    """Test scores of a candidate, as tables and requirements call them."""
    return {per_image(name): value for name, value in row.scores.items()} | row.pooled


def _scores_per_image(runs: list[RunResult], ranking: Ranking) -> dict[str, float]:
    rows = pd.concat([run.images for run in runs])
    columns = [f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS]
    columns += [name for name in DEFINITIONS if name in rows and name not in columns]
    means = rows[rows["split"] == "test"][columns].mean()
    return scores_of_masks(runs, "test", ranking) | {
        str(name): float(value) for name, value in means.items()
    }


def scores_of_masks(runs: list[RunResult], split: str, ranking: Ranking) -> dict[str, float]:
    """The metric that ranks, by name with each ending of `VARIANTS`; NaN where it has no such
    variant. Means over images and runs."""
    found = {}
    for ending in VARIANTS:
        own = ranking.with_mask(ending)
        if own.is_measured:
            parts = [own.of_images(run, split) for run in runs]
            found[own.name] = mean_of(parts)
        else:
            found[own.name] = np.nan
    return found


def _pooled_scores(runs: list[RunResult]) -> dict[str, float]:
    """Means over runs; NaN where a run has no score, which JSON writes as null."""
    keys = [f"test/{name}" for name in POOLED]
    keys += [key for key in runs[0].summary if key.startswith("test/dice_class_")]
    return {
        key.removeprefix("test/"): float(
            np.mean([np.nan if score is None else score for score in scores])
        )
        for key in keys
        if key in runs[0].summary and (scores := [run.summary[key] for run in runs])
    }


def _weights_name(candidate: Candidate) -> str:
    if candidate.weights_sha256 is None:
        return "from scratch" if candidate.from_scratch else candidate.weights
    return f"{Path(candidate.weights).name} ({candidate.weights_sha256[:8]})"
