"""The verdict in words: what the leaderboard says, and what it cannot say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segbench.comparison.cheapest import find_cheapest
from segbench.comparison.data_facts import leaks
from segbench.comparison.leaderboard import Leaderboard, LeaderboardRow
from segbench.comparison.planning import Plan
from segbench.comparison.statistics.decisions import Relation
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import FEWEST_FOLDS, FEWEST_SEEDS, GroupLimit
from segbench.evaluation.costs import Cost
from segbench.evaluation.results import RunResult
from segbench.params.compare import Comparison

RULE_LOSS = 0.01
"""Loss on test, of the mask rule chosen on validation, from which a caveat says so; of a distance,
`comparison.smallest_that_matters`."""

COARSE_GROUPS = 20
"""With fewer, intervals are wide and depend much on which groups there are."""

MOST_NAMED = 8
"""Candidates that a sentence names; the leaderboard has all."""


@dataclass(frozen=True)
class Verdict:
    """What a comparison says.

    Attributes:
        headline: who leads, in a few words.
        sentence: who wins and how sure that is.
        caveats: what the reader must not take from the numbers, a sentence each.
    """

    headline: str
    sentence: str
    caveats: list[str]


def reach_verdict(
    params: Comparison,
    board: Leaderboard,
    costs: Mapping[str, Cost],
    audit: Mapping[str, Any],
    runs: list[RunResult],
    plan: Plan | None,
) -> Verdict:
    """What a comparison says.

    Args:
        params: the section.
        board: the leaderboard.
        costs: of predicting, by alias.
        audit: what the split stage counted.
        runs: of all candidates.
        plan: what comparisons of other sizes would find; None where nothing is compared.
    """
    rollbacks = {run.name: run.trained["rollbacks"] for run in runs}
    resolves = board.resolvable <= params.smallest_that_matters
    further = [plan.sentence] if plan and not resolves else []
    leaky = leaks(audit, params.folds)
    return Verdict(
        headline(params, board, leaky),
        verdict_sentence(params, board, costs, leaky),
        [*caveats(params, board, rollbacks), *further],
    )


def headline(params: Comparison, board: Leaderboard, leaky: bool) -> str:
    """Who leads, in words that need no statistics.

    Args:
        params: the section.
        board: the leaderboard.
        leaky: test images are related to training images, which is said first.
    """
    champion, *rest = board.rows
    before = "The split leaks, so this may be wrong: " if leaky else ""
    if not rest:
        score = f"{champion.test.mean:.3f}{board.ranking.unit_text}"
        return f"{before}{champion.alias} reaches {board.ranking.name} {score}"
    if np.isinf(board.resolvable) or np.isnan(board.resolvable):
        return (
            f"{before}{champion.alias} leads, but these test images cannot show by more than chance"
        )
    named: dict[Relation | None, list[str]] = {}
    for row in rest:
        named.setdefault(row.relation, []).append(row.alias)
    as_trained = ", as trained here" if board.design == "one training" else ""
    if better := named.get("better"):
        return f"{before}{champion.alias} was chosen, but {_few(better)} did better on test"
    if len(named.get("worse", [])) == len(rest):
        best = "the better of the two" if len(rest) == 1 else f"the best of {len(board.rows)}"
        return f"{before}{champion.alias} is {best}{as_trained}"
    said = []
    if equal := named.get("equivalent"):
        said.append(f"{_few(equal)} {_is(equal)} as good for all that matters")
    if unknown := named.get("undecided"):
        said.append(f"{_few(unknown)} may be as good")
    return f"{before}{champion.alias} leads{as_trained}; {' and '.join(said)}"


def _few(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} others"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def verdict_sentence(
    params: Comparison, board: Leaderboard, costs: Mapping[str, Cost], leaky: bool
) -> str:
    """Who wins, how sure that is, and who is cheapest of those that are as good.

    Args:
        params: the section.
        board: the leaderboard.
        costs: of predicting, by alias.
        leaky: test images are related to training images, which is said first.
    """
    champion, unit = board.rows[0], board.ranking.unit_text
    warning = "The split leaks (audit.html), so all scores are optimistic. " if leaky else ""
    best = "best (lowest)" if board.ranking.lower_is_better else "best"
    lead = (
        f"{warning}{champion.alias} has the {best} validation {board.ranking.name} "
        f"({champion.val.mean:.3f}{unit}) and reaches {interval_text(champion.test)}{unit} on test."
    )
    if len(board.rows) == 1:
        return lead
    if np.isinf(board.resolvable):
        rivals, alpha = len(board.rows) - 1, 1 - params.confidence
        return (
            f"{lead} The test set can neither confirm nor refute its lead: with "
            f"{board.num_groups} independent group{_s(board.num_groups)} of test images and "
            f"{rivals} other candidate{_s(rivals)}, even a lead in every group would not reach "
            f"p < {alpha:.2g}."
        )
    return " ".join([lead, *_relations(params, board), _cheapest(params, board, costs)])


def _relations(params: Comparison, board: Leaderboard) -> list[str]:
    less = f"{params.smallest_that_matters:g}{board.ranking.unit_text}"
    scored = "lower" if board.ranking.lower_is_better else "higher"
    by_relation: dict[Relation | None, list[LeaderboardRow]] = {}
    for row in board.rows[1:]:
        by_relation.setdefault(row.relation, []).append(row)
    words: dict[Relation, str] = {
        "worse": {
            "one training": "As trained here, it is better than {}.",
            "seeds": "The test set confirms its lead over {}, also for networks that are trained "
            "anew on these training images.",
            "folds": "The test sets confirm its lead over {}, also for networks that are trained "
            "anew on other images.",
        }[board.design],
        "equivalent": f"It differs by less than {less} from {{}}.",
        "undecided": "The test set cannot tell it from {}.",
        "better": f"The test set contradicts this: {{}} scored {scored} there.",
    }
    said = [
        text.format(_all(by_relation[name])) for name, text in words.items() if name in by_relation
    ]
    if board.design == "one training":
        said.append(f"This holds for these trained networks. {_if_trained_anew(board)}")
    return said


def _if_trained_anew(board: Leaderboard) -> str:
    question = "How the encoders would compare if they were trained anew"
    if board.group_limit:
        return f"{question} takes {FEWEST_FOLDS} folds to say. {seeds_cannot(board.group_limit)}"
    on_others = f"on other images {FEWEST_FOLDS} folds"
    return f"{question} takes {FEWEST_SEEDS} seeds to say, and {on_others}."


def seeds_cannot(limit: GroupLimit) -> str:
    """Why no number of seeds lets a comparison speak of encoders that are trained anew."""
    few = (
        "many test images score less than half or more than twice the mean, so that few groups "
        "decide, and "
    ) * limit.misses
    return (
        f"Seeds alone cannot: {few}the test images weigh as {limit.has:.1f} groups of equal size, "
        f"where it takes {limit.needs}."
    )


def _cheapest(params: Comparison, board: Leaderboard, costs: Mapping[str, Cost]) -> str:
    found = find_cheapest(params, board, costs)
    matters = f"{params.smallest_that_matters:g}{board.ranking.unit_text}"
    if found.row is not board.rows[0]:
        return (
            f"The cheapest candidate that is not worse by {matters} or more is {found.row.alias} "
            f"({found.own}, against {found.champion}), with a probability of "
            f"{percent_text(found.row.p_not_worse)}."
        )
    if not found.cheaper:
        return f"It is also the cheapest ({found.own})."
    return f"No cheaper candidate is shown to be within {matters} of it ({found.own})."


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
        *_about_choices(board),
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
    return said


def _about_choices(board: Leaderboard) -> list[str]:
    if board.ranking.name == "dice":
        return []
    return [
        f"Candidates are ranked by {board.ranking.name}, but each training's best epoch and mask "
        "rule are those of the best validation dice."
    ]


def _about_mask_rule(params: Comparison, board: Leaderboard) -> list[str]:
    champion, ranking = board.rows[0], board.ranking
    default, chosen = (champion.scores[own.name] for own in (ranking.by_default, ranking.by_rule))
    loss = default - chosen if not ranking.lower_is_better else chosen - default
    most = params.smallest_that_matters if ranking.unit else RULE_LOSS
    if not loss >= most - 1e-12:  # also where the ranking score has no other masks
        return []
    return [
        f"The mask rule chosen on validation does not carry over: with it {champion.alias} reaches "
        f"{chosen:.3f} on test, at evaluate.threshold {default:.3f}."
    ]


def _about_ranks(params: Comparison, board: Leaderboard) -> list[str]:
    champion, said = board.rows[0], []
    if np.isfinite(board.resolvable):
        said.append(
            f"A true difference of {board.resolvable:.3f}{board.ranking.unit_text} "
            f"{board.ranking.name} to the champion is found (p < {1 - params.confidence:.2g}) in "
            "80 of 100 such experiments; smaller ones mostly go unnoticed."
        )
    if board.unstable:
        names = list_of(board.unstable)
        said.append(
            f"Unstable: the scores of {names} differ more from seed to seed than those of the "
            "others; one of its trainings says little of the next."
        )
    if (excess := board.winners_curse) > 0:
        said.append(_winners_curse(board, excess))
    if board.num_seeds > 1:
        said.append(
            f"{champion.alias} ranks first on test in "
            f"{board.stability.firsts[0] * board.num_seeds:.0f} of {board.num_seeds} seeds; "
            "Kendall's tau between the orders of two seeds is "
            f"{board.stability.agreement:.2f} on average."
        )
    return said


def _winners_curse(board: Leaderboard, excess: float) -> str:
    champion = board.rows[0]
    at_least = "at least " if board.design == "one training" else "about "
    size = f"{at_least}{excess:.3f}" if excess >= 0.0005 else "less than 0.001"
    if np.isnan(board.epoch_choice):
        further = ", and by more where the same images chose the best epoch"
    elif board.epoch_choice > 0:
        further = f", and by up to {board.epoch_choice:.3f} because they chose the best epoch too"
    else:
        further = ""
    return (
        f"Winner's curse: {champion.alias} was chosen for the best of {len(board.rows)} "
        f"validation scores, so its validation score is optimistic by {size}{further}; "
        + (
            "under cross-validation these are test images of other folds, so that its test "
            "score is a little optimistic too."
            if board.num_folds > 1
            else "rely on its test score."
        )
    )


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


def percent_text(probability: float) -> str:
    """97 %, or more than 99 %: a share of draws is never certain."""
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def _all(rows: list[LeaderboardRow]) -> str:
    return list_of(
        [
            f"{row.alias} ({p_text(row.difference_to_champion.p)})"
            for row in rows
            if row.difference_to_champion
        ]
    )


def list_of(names: Sequence[str]) -> str:
    """a, b and c; of many the first, and how many more."""
    if len(names) > MOST_NAMED:
        names = [*names[: MOST_NAMED - 1], f"{len(names) - MOST_NAMED + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"
