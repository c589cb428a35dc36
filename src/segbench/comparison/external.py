"""External test sets: how candidates do on images from elsewhere, and whether their order holds.

Nothing is trained, chosen or tested by them; they are shown beside the test set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segbench.comparison.leaderboard import Leaderboard, per_image, scores_of_masks
from segbench.comparison.ranking import Ranking
from segbench.comparison.scores import score_array
from segbench.comparison.single_images import ranks
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.uncertainty import intervals
from segbench.comparison.verdict import interval_text
from segbench.errors import InputError
from segbench.evaluation.results import (
    EXTERNAL,
    RunResult,
    external_key,
    read_external,
    read_external_facts,
)
from segbench.files import atomic_file
from segbench.metrics.catalogue import MASK_METRICS, VARIANTS
from segbench.params.compare import Comparison

SHOWN = ("dice", "iou", "precision", "recall")
"""Metrics of the table, as means over images and of all pixels pooled."""
MOST_NAMED = 3
"""Pairs of candidates that a sentence names."""


@dataclass(frozen=True)
class ExternalRow:
    """One candidate on an external set; scores are means over images and runs.

    Attributes:
        alias: of the candidate.
        rank: 1 plus the number of candidates whose mean is better; None without a score.
        test_rank: the same on the test set.
        score: what ranks, with its interval; NaN where truth and prediction are empty in all.
        test: the same on the test set.
        scores: by column of the rows of images: each metric with the endings of `VARIANTS`, and
            the one that ranks.
        pooled: of `SHOWN`, of the pixels of all images.
    """

    alias: str
    rank: int | None
    test_rank: int | None
    score: Interval
    test: Interval
    scores: dict[str, float]
    pooled: dict[str, float]


@dataclass(frozen=True)
class ExternalSet:
    """An external test set.

    Attributes:
        name: in the params.
        facts: see `splits.audit_external`.
        rows: the candidates, the best first.
        sentence: whether the champion is first there too, and whose order changes.
        warning: that networks were trained on some of its images; empty if on none.
    """

    name: str
    facts: dict[str, Any]
    rows: list[ExternalRow]
    sentence: str
    warning: str


def read_external_sets(
    params: Comparison,
    board: Leaderboard,
    runs: Sequence[RunResult],
    metrics: Path,
    external_sets: Path,
) -> list[ExternalSet]:
    """What the candidates score on every external set.

    Args:
        params: the section.
        board: the leaderboard.
        runs: of all candidates, as evaluated on their own splits.
        metrics: folder of scores files.
        external_sets: folder in which each set has its own.

    Raises:
        InputError: for files that are missing or do not belong together.
    """
    found = []
    for name in params.external:
        facts = read_external_facts(name, metrics)
        there = [read_external(run, name, metrics, external_sets) for run in runs]
        for run in there:
            if run.summary["sha256"]["dataset"] != facts["sha256"]:
                raise InputError(
                    f"{run.name}: its scores on {name} are of other images than those that are "
                    "there now; run 'segbench repro'"
                )
        found.append(judge(params, board, name, facts, there))
    return found


def judge(
    params: Comparison,
    board: Leaderboard,
    name: str,
    facts: dict[str, Any],
    there: Sequence[RunResult],
) -> ExternalSet:
    """What the candidates score on one external set.

    Args:
        params: the section.
        board: the leaderboard.
        name: of the set.
        facts: what is known of it.
        there: all runs, with the rows and scores of that set.
    """
    rows = _rows(params, board, name, there)
    sentence = sentence_of(name, board.ranking, board.aliases[0], rows)
    return ExternalSet(name, facts, rows, sentence, warning_of(name, facts))


def _rows(
    params: Comparison, board: Leaderboard, name: str, there: Sequence[RunResult]
) -> list[ExternalRow]:
    tests = {row.alias: row.test for row in board.rows}
    scores = _intervals(params, there, board)
    own_ranks, test_ranks = (_ranks(each, board.ranking) for each in (scores, tests))
    rows = []
    for alias in board.aliases:
        own = [run for run in there if run.alias == alias]
        columns = [f"{metric}{ending}" for metric in MASK_METRICS for ending in VARIANTS]
        means = pd.concat([run.images for run in own])[columns].mean()
        of_masks = scores_of_masks(own, EXTERNAL, board.ranking)
        pooled = {
            metric: [run.summary[f"{external_key(name)}/{metric}_micro"] for run in own]
            for metric in SHOWN
        }
        rows.append(
            ExternalRow(
                alias,
                own_ranks[alias],
                test_ranks[alias],
                scores[alias],
                tests[alias],
                of_masks | {str(column): float(value) for column, value in means.items()},
                {metric: _mean(values) for metric, values in pooled.items()},
            )
        )
    return sorted(rows, key=lambda row: row.rank or len(rows) + 1)


def _intervals(
    params: Comparison, there: Sequence[RunResult], board: Leaderboard
) -> dict[str, Interval]:
    """Mean of each candidate with its interval: the one place that calls the statistics."""
    nothing, aliases, ranking = Interval(np.nan, np.nan, np.nan), board.aliases, board.ranking
    known = {
        run.alias for run in there if not np.isnan(ranking.of_images(run, EXTERNAL).values).all()
    }
    scored = [alias for alias in aliases if alias in known]
    if not scored:
        return dict.fromkeys(aliases, nothing)
    chosen = [run for run in there if run.alias in scored]
    panel = Panel(*score_array(chosen, scored, EXTERNAL, ranking))
    found = intervals(panel, params.confidence, ranking.most)
    return dict.fromkeys(aliases, nothing) | dict(zip(scored, found, strict=True))


def _ranks(scores: Mapping[str, Interval], ranking: Ranking) -> dict[str, int | None]:
    """By mean alone; equal means share a rank."""
    means = np.array([score.mean for score in scores.values()])
    return dict(zip(scores, ranks(means, ranking.lower_is_better), strict=True))


def _mean(values: Sequence[float | None]) -> float:
    """NaN where a run has no score, which JSON writes as null."""
    return float(np.mean([np.nan if value is None else value for value in values]))


def sentence_of(name: str, ranking: Ranking, champion: str, rows: Sequence[ExternalRow]) -> str:
    """Whether the champion is first on an external set, and how many pairs change their order.

    Args:
        name: of the set.
        ranking: the metric that ranks.
        champion: chosen on validation.
        rows: the candidates, the best first.
    """
    own, metric = next(row for row in rows if row.alias == champion), ranking.name
    if own.rank is None:
        return (
            f"{champion}, the champion on validation, has no {metric} on {name}: truth and "
            "prediction are empty in all images."
        )
    if len(rows) == 1:
        return f"On {name}, {champion} reaches {metric} {interval_text(own.score)}."
    if own.rank == 1:
        lead = (
            f"{champion}, the champion on validation, is also first on {name}, with {metric} "
            f"{interval_text(own.score)}."
        )
    else:
        first = rows[0]
        lead = (
            f"{champion}, the champion on validation, is not first on {name} but number "
            f"{own.rank} of {len(rows)}, with {metric} {interval_text(own.score)}; {first.alias} "
            f"is, with {interval_text(first.score)}."
        )
    return f"{lead} {_flips(name, rows)}"


def _flips(name: str, rows: Sequence[ExternalRow]) -> str:
    ranked = [
        (row, row.rank, row.test_rank)
        for row in rows
        if row.rank is not None and row.test_rank is not None
    ]
    flipped = [
        f"{worse.alias} and {better.alias}"
        for (better, a, test_a), (worse, b, test_b) in combinations(ranked, 2)
        if a < b and test_a > test_b
    ]
    if not flipped:
        return f"No two candidates change their order between the test set and {name}."
    pairs = len(ranked) * (len(ranked) - 1) // 2
    if pairs == 1:
        return f"The two change their order between the test set and {name}."
    named = f": {', '.join(flipped)}" if len(flipped) <= MOST_NAMED else ""
    return (
        f"Of {pairs} pairs of candidates, {len(flipped)} change{'s' * (len(flipped) == 1)} the "
        f"order between the test set and {name}{named}."
    )


def warning_of(name: str, facts: Mapping[str, Any]) -> str:
    """That networks were trained on images of an external set; empty if on none.

    Args:
        name: of the set.
        facts: what the audit found.
    """
    seen = sum(facts["in_training"].values())
    if not seen:
        return ""
    return (
        f"{seen} of the {facts['images']} images of {name} show what a training image shows "
        f"(data/external/{name}/leaks.csv), so its scores are optimistic."
    )


def write_external(sets: Sequence[ExternalSet], ranking: Ranking, path: Path) -> None:
    """Write a CSV row for each external set and candidate; only the header without any set.

    Args:
        sets: to write.
        ranking: the metric that ranks.
        path: of the file.
    """
    chosen = ranking.by_rule
    columns = [
        *("external", "candidate", "rank", "test_rank", "score", "score_low", "score_high", "test"),
        *("images", "groups", "in_training"),
        *(f"{name}_per_image" for name in SHOWN),
        per_image(chosen.name),
        *(f"{name}_micro" for name in SHOWN),
    ]
    rows = [
        [
            *(one.name, row.alias, row.rank, row.test_rank),
            *(row.score.mean, row.score.low, row.score.high, row.test.mean),
            *(one.facts["images"], one.facts["groups"], sum(one.facts["in_training"].values())),
            *(row.scores[name] for name in SHOWN),
            row.scores[chosen.name],
            *(row.pooled[name] for name in SHOWN),
        ]
        for one in sets
        for row in one.rows
    ]
    with atomic_file(path) as partial:
        table = pd.DataFrame(rows, columns=columns).astype({"rank": "Int64", "test_rank": "Int64"})
        table.to_csv(partial, index=False, lineterminator="\n")
