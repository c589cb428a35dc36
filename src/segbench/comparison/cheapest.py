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
    cost = listed_cost(params, board, costs)
    values = cost.values
    champion = board.rows[0]
    as_good = [champion] + [
        row
        for row in board.rows[1:]
        if row.difference_to_champion
        and not_worse(board.gain(row.difference_to_champion), params.smallest_that_matters)
    ]
    found = min(as_good, key=lambda row: values[row.alias])
    return Cheapest(
        found,
        cost.in_words(found.alias),
        cost.in_words(champion.alias),
        [alias for alias in board.aliases if values[alias] < values[champion.alias]],
    )


@dataclass(frozen=True)
class ListedCost:
    """The cost that `comparison.cost` asks for.

    Attributes:
        heading: what it is.
        values: by alias.
        form: of a value with its unit.
        rest: what a sentence says after that.
    """

    heading: str
    values: dict[str, float]
    form: str
    rest: str

    def in_cell(self, alias: str) -> str:
        """6.21 M."""
        return self.form.format(self.values[alias])

    def in_words(self, alias: str) -> str:
        """6.21 M parameters."""
        return f"{self.in_cell(alias)} {self.rest}"


def listed_cost(params: Comparison, board: Leaderboard, costs: Mapping[str, Cost]) -> ListedCost:
    """The cost of the candidates that `comparison.cost` asks for; in place of memory, which a CPU
    does not tell, that of the weights.

    Args:
        params: the section.
        board: the leaderboard.
        costs: of predicting, by alias.
    """
    own = {alias: costs[alias] for alias in board.aliases}
    if params.cost == "parameters":
        values = {alias: cost.parameters / 1e6 for alias, cost in own.items()}
        return ListedCost("parameters", values, "{:.2f} M", "parameters")
    if params.cost == "latency":
        values = {alias: cost.latency_ms.median for alias, cost in own.items()}
        return ListedCost("latency", values, "{:.1f} ms", "per image")
    peaks = {alias: cost.peak_mib for alias, cost in own.items() if cost.peak_mib is not None}
    if len(peaks) == len(own):
        return ListedCost("peak memory", peaks, "{:.0f} MiB", "at the peak")
    values = {alias: cost.weight_bytes / 2**20 for alias, cost in own.items()}
    return ListedCost("weights", values, "{:.1f} MiB", "of weights")
