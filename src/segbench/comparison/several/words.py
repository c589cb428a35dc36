"""The verdict over several data sets in words: what it claims, and what it cannot."""

from collections.abc import Callable

import numpy as np

from segbench.comparison.data_facts import leaks
from segbench.comparison.several.board import Board, Row, smallest_as_good
from segbench.comparison.several.finished import Together, few
from segbench.comparison.statistics.across import FEWEST_DATASETS, Claim
from segbench.comparison.statistics.decisions import Relation
from segbench.comparison.verdict import Verdict, list_of, p_text


def reach_verdict(together: Together, board: Board) -> Verdict:
    """What several comparisons say together.

    Args:
        together: the comparisons.
        board: their candidates.
    """
    champion, number = board.rows[0].alias, len(board.datasets)
    return Verdict(
        f"{champion} leads on {number} data sets together",
        _sentence(together, board),
        _caveats(together, board),
    )


def _sentence(together: Together, board: Board) -> str:
    champion, chosen = board.rows[0], together.params.comparison
    ranking, unit = board.ranking, board.ranking.unit_text
    matters = f"{chosen.smallest_that_matters:g}{unit}"
    best = "best (lowest)" if ranking.lower_is_better else "best"
    scored = "lower" if ranking.lower_is_better else "higher"
    said = [
        f"{champion.alias} has the {best} mean validation {ranking.name} over "
        f"{len(board.datasets)} data sets ({champion.val:.3f}{unit}) and reaches "
        f"{champion.test:.3f}{unit} on test.",
        *_relations(
            board,
            lambda row: row.on_these,
            lambda row: row.these,
            {
                "worse": f"On these data sets, {_anew(board)}, it is better than {{}}.",
                "equivalent": f"On these data sets it differs by less than {matters} from {{}}.",
                "undecided": "These test sets cannot tell it from {}.",
                "better": f"These test sets contradict the choice: {{}} scored {scored} there.",
            },
        ),
        *_relations(
            board,
            lambda row: row.on_like_these,
            lambda row: row.like_these,
            {
                "worse": "On data sets like these it is better than {}.",
                "equivalent": f"On data sets like these it differs by less than {matters} from "
                "{}.",
                "undecided": "On data sets like these, how it compares with {} stays undecided.",
                "better": f"On data sets like these, {{}} would score {scored}.",
            },
        ),
    ]
    if len(board.datasets) < FEWEST_DATASETS:
        said.append(
            "What would hold on other data sets like these is not said: two do not show how much a "
            f"difference varies from one data set to another; it takes {FEWEST_DATASETS}."
        )
    return " ".join([*said, _smallest(board, chosen.smallest_that_matters)])


def _anew(board: Board) -> str:
    """What is claimed of trainings: no more than the weakest design shows."""
    designs = {one.design for one in board.datasets}
    if "one training" in designs:
        return "as trained there"
    if "seeds" in designs:
        return "also for networks that are trained anew on their training images"
    return "also for networks that are trained anew on other images of theirs"


def _relations(
    board: Board,
    relation: Callable[[Row], Relation | None],
    claim: Callable[[Row], Claim | None],
    words: dict[Relation, str],
) -> list[str]:
    said = []
    for name, text in words.items():
        rows = [(row, claim(row)) for row in board.rows if relation(row) == name]
        named = [f"{row.alias} ({p_text(own.p)})" for row, own in rows if own]
        if named:
            said.append(text.format(list_of(named)))
    return said


def _smallest(board: Board, matters: float) -> str:
    champion, least = board.rows[0], f"{matters:g}{board.ranking.unit_text}"
    if all(row.parameters >= champion.parameters for row in board.rows):
        return f"No candidate has fewer parameters ({_millions(champion)})."
    these, like_these = (smallest_as_good(board, matters, like) for like in (False, True))
    if these is champion:
        return (
            f"No candidate with fewer parameters is shown to be within {least} of it "
            f"({_millions(champion)})."
        )
    text = (
        f"The smallest candidate that is not worse by {least} or more on these data sets is "
        f"{these.alias} ({_millions(these)}, against {_millions(champion)})"
    )
    if len(board.datasets) < FEWEST_DATASETS:
        return f"{text}."
    if like_these is champion:
        return f"{text}; that it is so on others like these is not shown."
    if like_these is these:
        return f"{text}, and on data sets like these."
    return f"{text}; on data sets like these it is {like_these.alias} ({_millions(like_these)})."


def _millions(row: Row) -> str:
    return f"{row.parameters / 1e6:.2f} M parameters"


def _caveats(together: Together, board: Board) -> list[str]:
    alpha = 1 - together.params.comparison.confidence
    return [
        *_about_data(together),
        *_about_left_out(together),
        *_about_recipes(together),
        *_about_choice(board),
        *_about_spread(board),
        *_about_ranks(board, alpha),
    ]


def _about_data(together: Together) -> list[str]:
    leaky = [
        one.label for one in together.finished if leaks(one.audit, one.params.comparison.folds)
    ]
    if not leaky:
        return []
    return [f"The split of {list_of(leaky)} leaks, so all scores on it are optimistic."]


def _about_left_out(together: Together) -> list[str]:
    if not together.left_out:
        return []
    names = [f"{alias} (only in {list_of(own)})" for alias, own in together.left_out.items()]
    return [f"Left out, since not all comparisons have them: {list_of(names)}."]


def _about_recipes(together: Together) -> list[str]:
    if not together.unlike:
        return []
    return [
        f"The recipes are not the same on all data sets: {few(together.unlike)}. Within each, all "
        "candidates had the same."
    ]


def _about_choice(board: Board) -> list[str]:
    champion = board.rows[0].alias
    if board.first_by_rank == champion:
        return []
    return [
        f"By mean rank on validation {board.first_by_rank} would be first; {champion} was chosen "
        "by mean score, since that is what is claimed of it."
    ]


def _about_spread(board: Board) -> list[str]:
    known = [(row.spread, row) for row in board.rows[1:]]
    most, row = max(known, key=lambda pair: np.nan_to_num(pair[0]))
    if np.isnan(most):
        return []
    if most < 0.0005:
        return [
            "Differences to the champion vary no more from data set to data set than their errors "
            "would make them."
        ]
    return [
        "Beyond what their errors explain, differences to the champion vary from data set to data "
        f"set, most for {row.alias}: by a standard deviation of {most:.3f}."
    ]


def _about_ranks(board: Board, alpha: float) -> list[str]:
    tested, number = board.ranks, len(board.datasets)
    said = []
    if tested.smallest_p < alpha:
        f = "all data sets order them alike" if np.isinf(tested.f) else f"F = {tested.f:.2f}"
        said.append(
            "Ranks by data set: Friedman's test of whether candidates differ at all gives "
            f"{p_text(tested.p)} ({f})."
        )
    else:
        said.append(
            f"Ranks by data set are not tested: were all {number} alike, Friedman's test would "
            f"still give p = {tested.smallest_p:.2g}."
        )
    if tested.smallest_to_champion < alpha:
        found = [row.alias for row in board.rows[1:] if row.rank_p < alpha]
        said.append(
            f"The champion's ranks differ from those of {list_of(found)} (p < {alpha:.2g})."
            if found
            else "The champion's ranks differ from those of no other candidate for certain "
            f"(p < {alpha:.2g})."
        )
    else:
        needed = int(np.ceil(np.log2(2 / alpha) + 1e-9))
        said.append(
            f"Ranks against the champion are not tested: a lead on each of {number} data sets "
            f"gives p = {tested.smallest_to_champion:.2g}; it takes {needed}."
        )
    return said
