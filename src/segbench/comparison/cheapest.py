"""The cheapest candidate that is as good as the champion, for all that matters."""

from collections.abc import Mapping
from dataclasses import dataclass

from segbench.comparison.leaderboard import Leaderboard, LeaderboardRow
from segbench.comparison.statistics.decisions import not_worse
from segbench.evaluation.costs import Cost
from segbench.params.compare import Comparison


@dataclass(frozen=True)
class Cheapest:
    """Which candidate costs least of those that are not worse than the champion.

    Attributes:
        row: it; the champion itself if nothing cheaper is shown to be as good.
        own, champion: its cost and the champion's, in words.
        cheaper: candidates that cost less than the champion, whether or not they are as good.
    """

    row: LeaderboardRow
    own: str
    champion: str
    cheaper: list[str]


def find_cheapest(params: Comparison, board: Leaderboard, costs: Mapping[str, Cost]) -> Cheapest:
    """Of those shown not to be worse than the champion by as much as matters, the cheapest.

    Args:
        params: the section.
        board: the leaderboard.
        costs: of predicting, by alias.
    """
    by: str = params.cost
    # A CPU does not say what a network takes while it predicts.
    if by == "memory" and any(costs[alias].peak_mib is None for alias in board.aliases):
        by = "weights"
    values = {alias: _cost(by, costs[alias]) for alias in board.aliases}
    champion = board.rows[0]
    as_good = [champion] + [
        row
        for row in board.rows[1:]
        if row.difference_to_champion
        and not_worse(row.difference_to_champion, params.smallest_that_matters)
    ]
    found = min(as_good, key=lambda row: values[row.alias])
    text = TEXTS[by]
    return Cheapest(
        found,
        text.format(values[found.alias]),
        text.format(values[champion.alias]),
        [alias for alias in board.aliases if values[alias] < values[champion.alias]],
    )


TEXTS = {
    "parameters": "{:.2f} M parameters",
    "latency": "{:.1f} ms per image",
    "memory": "{:.0f} MiB at the peak",
    "weights": "{:.1f} MiB of weights",
}


def _cost(by: str, cost: Cost) -> float:
    if by == "parameters":
        return cost.parameters / 1e6
    if by == "latency":
        return cost.latency_ms.median
    return cost.weight_bytes / 2**20 if cost.peak_mib is None or by == "weights" else cost.peak_mib
