"""The verdict in words: what the leaderboard says, and what it cannot say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from segbench.comparison.data_facts import leaks
from segbench.comparison.leaderboard import Leaderboard, LeaderboardRow
from segbench.comparison.statistics import Interval
from segbench.evaluation.results import RunResult
from segbench.params.compare import Comparison

RULE_LOSS = 0.01
"""Loss on test, of the mask rule chosen on validation, from which a caveat says so."""

COARSE_GROUPS = 20
"""With fewer, intervals are wide and depend much on which groups there are."""

MOST_NAMED = 8
"""Candidates that a sentence names; the leaderboard has all."""


@dataclass(frozen=True)
class Verdict:
    """What a comparison says.

    Attributes:
        sentence: who wins and how sure that is.
        caveats: what the reader must not take from the numbers, a sentence each.
    """

    sentence: str
    caveats: list[str]


def reach_verdict(
    params: Comparison, board: Leaderboard, audit: Mapping[str, Any], runs: list[RunResult]
) -> Verdict:
    """What a comparison says.

    Args:
        params: the section.
        board: the leaderboard.
        audit: what the split stage counted.
        runs: of all candidates.
    """
    rollbacks = {run.name: run.trained["rollbacks"] for run in runs}
    return Verdict(
        verdict_sentence(params, board, leaks(audit, params.folds)),
        caveats(params, board, rollbacks),
    )


def verdict_sentence(params: Comparison, board: Leaderboard, leaky: bool) -> str:
    """Who wins and how sure that is, in a sentence or two.

    Args:
        params: the section.
        board: the leaderboard.
        leaky: test images are related to training images, which is said first.
    """
    champion = board.rows[0]
    warning = "The split leaks (audit.html), so all scores are optimistic. " if leaky else ""
    lead = (
        f"{warning}{champion.alias} has the best validation {params.metric} "
        f"({champion.val.mean:.3f}) and reaches {interval_text(champion.test)} on test."
    )
    if len(board.rows) == 1:
        return lead
    alpha = 1 - params.confidence
    if smallest_p(board) >= alpha:
        pairs = len(board.differences)
        return (
            f"{lead} The test set can neither confirm nor refute its lead: with "
            f"{board.num_groups} independent group{_s(board.num_groups)} of test images and "
            f"{pairs} pair{_s(pairs)} of candidates, even a lead in every group would not reach "
            f"p < {alpha:.2g}."
        )
    confirmed, contradicted, undecided = [], [], []
    for row in board.rows[1:]:
        gap = row.difference_to_champion
        assert gap is not None
        if not gap.p < alpha:
            undecided.append(row)
        elif gap.interval.mean < 0:
            confirmed.append(row)
        else:
            contradicted.append(row)
    parts = [lead]
    if confirmed:
        parts.append(f"The test set confirms its lead over {_all(confirmed)}.")
    if undecided:
        parts.append(f"The test set cannot tell it from {_all(undecided)}.")
    if contradicted:
        parts.append(f"The test set contradicts this: {_all(contradicted)} scored higher there.")
    return " ".join(parts)


def caveats(params: Comparison, board: Leaderboard, rollbacks: Mapping[str, int]) -> list[str]:
    """What the reader must not take from the numbers, a sentence each.

    Args:
        params: the section.
        board: the leaderboard.
        rollbacks: of each run, by name.
    """
    alone = ["Only one candidate: nothing is compared."] if len(board.rows) == 1 else []
    return [
        *_about_runs(rollbacks),
        *_about_data(board),
        *_about_mask_rule(params, board),
        *(alone or _about_ranks(params, board)),
    ]


def _about_runs(rollbacks: Mapping[str, int]) -> list[str]:
    return [
        f"{name} rolled back {'once' if times == 1 else f'{times} times'} after a non-finite loss "
        "and trained on at a lower learning rate: the recipe was not the same for all."
        for name, times in rollbacks.items()
        if times
    ]


def _about_data(board: Leaderboard) -> list[str]:
    said = []
    if board.num_groups == 1:
        said.append(
            "All test images belong to one group: there is no evidence of how other groups would "
            "score, so there are no intervals and no tests."
        )
    elif board.num_groups < COARSE_GROUPS:
        said.append(
            f"Only {board.num_groups} independent groups of test images: intervals are coarse."
        )
    if board.num_seeds == 1:
        said.append(
            "One seed: the spread across seeds is unknown, so the results hold for these trained "
            "networks, not for the encoders when trained again."
        )
    return said


def _about_mask_rule(params: Comparison, board: Leaderboard) -> list[str]:
    champion = board.rows[0]
    default, chosen = (champion.scores[f"{params.metric}{ending}"] for ending in ("", "_chosen"))
    if chosen > default - RULE_LOSS:
        return []
    return [
        f"The mask rule chosen on validation does not carry over: with it {champion.alias} reaches "
        f"{chosen:.3f} on test, at evaluate.threshold {default:.3f}."
    ]


def _about_ranks(params: Comparison, board: Leaderboard) -> list[str]:
    champion, said = board.rows[0], []
    # Where no lead can be confirmed no difference is found, however large.
    confirmable = smallest_p(board) < 1 - params.confidence
    if confirmable and not np.isnan(board.min_detectable_difference):
        said.append(
            "Minimum detectable difference: about "
            f"{board.min_detectable_difference:.3f} {params.metric}. A true difference of that "
            f"size between two candidates is found (p < {1 - params.confidence:.2g}) in 80 of 100 "
            "such experiments; smaller ones mostly go unnoticed."
        )
    if (excess := board.winners_curse) > 0:
        size = f"about {excess:.3f}" if excess >= 0.0005 else "less than 0.001"
        said.append(
            f"Winner's curse: {champion.alias} was chosen for the best of {len(board.rows)} "
            f"validation scores, so its validation score is optimistic by {size}; rely on its test "
            "score."
        )
    if board.num_seeds > 1:
        said.append(
            f"{champion.alias} ranks first on test in "
            f"{board.stability.firsts[0] * board.num_seeds:.0f} of {board.num_seeds} seeds; "
            "Kendall's tau between the orders of two seeds is "
            f"{board.stability.agreement:.2f} on average."
        )
    return said


def smallest_p(board: Leaderboard) -> float:
    """What a lead in every group could reach in the permutation test, after Holm's correction."""
    return len(board.differences) * 2.0 ** (1 - board.num_groups)


def interval_text(value: Interval) -> str:
    """0.706 [0.544, 0.816], or the mean alone where nothing bounds it."""
    if np.isnan(value.low):
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def p_text(p: float) -> str:
    """p = 0.034, p < 0.001, or that there is none."""
    if np.isnan(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _all(rows: list[LeaderboardRow]) -> str:
    names = [
        f"{row.alias} ({p_text(row.difference_to_champion.p)})"
        for row in rows
        if row.difference_to_champion
    ]
    if len(names) > MOST_NAMED:
        names = [*names[: MOST_NAMED - 1], f"{len(names) - MOST_NAMED + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"
