"""Candidates over several data sets: who leads, by how much, and how sure that is."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from segbench.comparison.ranking import Ranking, ranking_of
from segbench.comparison.scores import score_array, upward
from segbench.comparison.several.finished import Finished, Together, shown
from segbench.comparison.statistics.across import Across, Claim, compare_across
from segbench.comparison.statistics.decisions import Relation, not_worse, relation_of
from segbench.comparison.statistics.differences import Difference, Interval, compare
from segbench.comparison.statistics.middle import interquartile_means
from segbench.comparison.statistics.panel import Design, Floats, Panel, design_of
from segbench.comparison.statistics.ranks import RankTest, rank_test, ranks_of
from segbench.errors import InputError

RANDOM_SEED = 0
"""Seed of resampling and permutations, fixed so that results are reproducible."""
Gap = TypeVar("Gap", Difference, Claim)
MOST_RESAMPLES = 2000
"""Of interquartile means, which nothing is decided by."""


@dataclass(frozen=True)
class OnOne:
    """A candidate on one data set.

    Attributes:
        val, test: its mean score.
        rank: among the candidates that all comparisons have, by mean test score.
        difference: to the champion on test; None for the champion.
    """

    val: float
    test: float
    rank: float
    difference: Difference | None


@dataclass(frozen=True)
class Row:
    """One candidate over all data sets, which weigh the same.

    Attributes:
        alias, encoder: who it is.
        parameters: of the whole network, where it is largest.
        val, test: means of its scores on each.
        rank: mean rank on test.
        middle: interquartile mean of its test scores over groups of images and data sets.
        each: on each data set.
        these, like_these: its difference to the champion by the two claims; None for the champion,
            and where the claim cannot be made.
        on_these, on_like_these: what they say of it.
        spread: see `statistics.across.Across`; NaN for the champion.
        rank_p: whether its ranks differ from the champion's; NaN for the champion.
    """

    alias: str
    encoder: str
    parameters: int
    val: float
    test: float
    rank: float
    middle: Interval
    each: list[OnOne]
    these: Claim | None
    like_these: Claim | None
    on_these: Relation | None
    on_like_these: Relation | None
    spread: float
    rank_p: float


@dataclass(frozen=True)
class DatasetFacts:
    """What a data set can show.

    Attributes:
        label: of it.
        folder: of its comparison, from the workspace; its name alone if it lies elsewhere.
        images, groups: of the test set.
        seeds, folds: of each candidate.
        design: what lets trainings vary there.
    """

    label: str
    folder: str
    images: int
    groups: int
    seeds: int
    folds: int
    design: Design


@dataclass(frozen=True)
class Board:
    """The candidates in order, and what holds of all of them.

    Attributes:
        ranking: the metric that ranks.
        rows: best mean validation score first, so that the champion is the first.
        datasets: in the order in which they were named.
        ranks: tests of mean ranks.
        first_by_rank: who would be champion by mean rank on validation.
    """

    ranking: Ranking
    rows: list[Row]
    datasets: list[DatasetFacts]
    ranks: RankTest
    first_by_rank: str


def make_board(together: Together) -> Board:
    """Order the candidates by validation, and judge the order by test.

    The champion has the best mean of validation scores, since mean differences are what is claimed
    of it. Mean ranks would depend on which other candidates there are, and take a hair's breadth
    for as much as a tenth.

    Raises:
        InputError: for a data set that cannot bound a difference, and see `score_array`.
    """
    # Decisions are made of scores of which higher is better, and told of those that were measured.
    ranking = _same_unit(together)
    told, lower = ranking.upward, ranking.lower_is_better
    vals = np.array([_panel(one, together.aliases, "val").means for one in together.finished])
    order = np.argsort(-vals.mean(axis=0), kind="stable")
    aliases, vals = [together.aliases[at] for at in order], vals[:, order]
    panels = [_panel(one, aliases, "test") for one in together.finished]
    for one, panel in zip(together.finished, panels, strict=True):
        if panel.num_groups < 2:
            raise InputError(
                f"{shown(one.folder)}: all its test images belong to one group, so no difference "
                "on it has an error; raise split.test_share there, or leave it out"
            )
    chosen = together.params.comparison
    draws = max(one.params.comparison.num_resamples for one in together.finished)
    chances = chosen.confidence, draws, RANDOM_SEED
    pairs = np.array([(at, 0) for at in range(1, len(aliases))])
    differences = [compare(panel, pairs, *chances) for panel in panels]
    numbers = [[(one.interval.mean, one.error, one.degrees) for one in own] for own in differences]
    gaps, errors, degrees = np.moveaxis(np.array(numbers), 2, 0)
    across: list[Across | None] = [None, *compare_across(gaps, errors, degrees, *chances)]
    tests = np.array([panel.means for panel in panels])
    tested = rank_test(tests, draws, RANDOM_SEED)
    places = ranks_of(tests)
    middle = interquartile_means(
        [_group_means(panel) for panel in panels],
        chosen.confidence, min(draws, MOST_RESAMPLES), RANDOM_SEED,
    )  # fmt: skip
    rows = [
        Row(
            alias=alias,
            encoder=together.params.candidates[alias].encoder,
            parameters=_parameters(together, alias),
            val=float(told(vals[:, at].mean())),
            test=float(told(tests[:, at].mean())),
            rank=float(places[:, at].mean()),
            middle=middle[at].turned if lower else middle[at],
            each=[
                OnOne(
                    float(told(vals[number, at])),
                    float(told(tests[number, at])),
                    float(places[number, at]),
                    _told(differences[number][at - 1], lower) if at else None,
                )
                for number in range(len(panels))
            ],
            these=_told(own.these, lower) if (own := across[at]) else None,
            like_these=_told(own.like_these, lower) if own and own.like_these else None,
            on_these=_relation(own.these, together) if own else None,
            on_like_these=_relation(own.like_these, together) if own else None,
            spread=own.spread if own else np.nan,
            rank_p=float(tested.to_champion[at - 1]) if at else np.nan,
        )
        for at, alias in enumerate(aliases)
    ]
    facts = [_facts(one, panel) for one, panel in zip(together.finished, panels, strict=True)]
    first = aliases[int(ranks_of(vals).mean(axis=0).argmin())]
    return Board(ranking, rows, facts, tested, first)


def _same_unit(together: Together) -> Ranking:
    """The metric that ranks, which must have one unit to have a mean over data sets."""
    known = {shown(one.folder): ranking_of(one.params) for one in together.finished}
    (first, ranking), *_ = known.items()
    for folder, other in known.items():
        if other.unit != ranking.unit:
            raise InputError(
                f"{ranking.name} is in {ranking.unit} in {first} and in {other.unit} in {folder}, "
                "so it has no mean over both; rank by a metric without unit, or set "
                "dataset.spacing in all"
            )
    return ranking


def _panel(one: Finished, aliases: list[str], split: str) -> Panel:
    ranking = ranking_of(one.params)
    return Panel(*upward(score_array(one.runs, aliases, split, ranking), ranking))


def _told(gap: Gap, lower_is_better: bool) -> Gap:
    """A difference of the scores that were measured."""
    return gap.negated if lower_is_better else gap


def _relation(claim: Claim | None, together: Together) -> Relation | None:
    if claim is None:
        return None
    chosen = together.params.comparison
    return relation_of(claim, chosen.confidence, chosen.smallest_that_matters)


def _parameters(together: Together, alias: str) -> int:
    """Those of the output depend on the number of classes."""
    return max(
        int(run.summary["parameters"])
        for one in together.finished
        for run in one.runs
        if run.alias == alias
    )


def _group_means(panel: Panel) -> Floats:
    """(C, G) of the groups in which all candidates have a score."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = panel.groups.parts / panel.groups.weights
    whole = ~np.isnan(means).any(axis=0)
    found: Floats = means[:, whole] if whole.any() else panel.means[:, None]
    return found


def _facts(one: Finished, panel: Panel) -> DatasetFacts:
    chosen = one.params.comparison
    first = chosen.seeds[0], one.runs[0].alias
    images = [run.images for run in one.runs if (run.seed, run.alias) == first]
    return DatasetFacts(
        one.label,
        # Pages are read elsewhere, where an absolute path says nothing.
        one.folder.name if Path(shown(one.folder)).is_absolute() else shown(one.folder),
        sum(int((rows["split"] == "test").sum()) for rows in images),
        panel.num_groups,
        len(chosen.seeds),
        len(chosen.folds),
        design_of(panel),
    )


def smallest_as_good(board: Board, matters: float, like_these: bool) -> Row:
    """The candidate with the fewest parameters of those that are shown not to be worse than the
    champion by as much as matters; the champion itself, if none is.

    Args:
        board: the candidates.
        matters: the smallest difference that matters.
        like_these: by the claim on data sets like these, else by that on these.
    """
    champion = board.rows[0]
    as_good = [champion]
    for row in board.rows[1:]:
        claim = row.like_these if like_these else row.these
        if claim and not_worse(_told(claim, board.ranking.lower_is_better), matters):
            as_good.append(row)
    return min(as_good, key=lambda row: row.parameters)
