"""Learning curves over shares of the training groups: whether more of them would help."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segbench.comparison.leaderboard import RANDOM_SEED, Leaderboard
from segbench.comparison.scores import score_array, upward
from segbench.comparison.statistics.decisions import Relation, relation_of
from segbench.comparison.statistics.differences import Difference, Interval, compare
from segbench.comparison.statistics.panel import FEWEST_FOLDS, FEWEST_SEEDS, Design, Panel
from segbench.comparison.statistics.power import resolvable
from segbench.comparison.statistics.uncertainty import intervals
from segbench.comparison.verdict import interval_text
from segbench.errors import InputError
from segbench.evaluation.results import RunResult
from segbench.params import Params
from segbench.params.compare import Comparison, RunKey

DRAWN: dict[Design, str] = {
    "one training": "All this is said of these trained networks, on the groups that were drawn for "
    "them.",
    "seeds": "Each seed draws the groups of the smaller shares anew, so all this is said of "
    "networks that are trained anew, on groups drawn anew from these training images.",
    "folds": "Each fold and seed draws the groups of the smaller shares anew, so all this is said "
    "of networks that are trained anew on other images.",
}
"""What the gains speak of, by what varies."""


@dataclass(frozen=True)
class CurvePoint:
    """A candidate trained on a share of the training groups.

    Attributes:
        alias: of the candidate with this share.
        share: of the groups.
        groups: the fewest and the most that a run of it was trained on.
        val, test: the ranking score, with its interval.
    """

    alias: str
    share: float
    groups: tuple[int, int]
    val: Interval
    test: Interval

    @property
    def groups_text(self) -> str:
        """32, or 30 to 32 where folds differ."""
        fewest, most = self.groups
        return str(most) if fewest == most else f"{fewest} to {most}"


@dataclass(frozen=True)
class LearningCurve:
    """What a candidate scores after training on shares of the groups.

    Attributes:
        points: smallest share first; the last is the candidate itself, on all groups.
        gain: on test, of all groups over the largest share below.
        sentence: whether more groups would help.
    """

    points: list[CurvePoint]
    gain: Difference
    sentence: str


def find_learning_curves(
    params: Params, board: Leaderboard, runs: Sequence[RunResult]
) -> list[LearningCurve]:
    """The curves of all rivals that have one, in the order of the leaderboard.

    Each gain is tested in a panel of its two ends alone, since curves share more than a seed's
    order of batches: all of them lose the same groups. Taken off as what a seed does to all, part
    of what that choice does to every gain would be gone. So intervals of several curves hold
    together by Bonferroni's correction.

    Args:
        params: all of them.
        board: the leaderboard, which the points are not in.
        runs: of all candidates.

    Raises:
        InputError: for a run of a version that counted no groups.
    """
    chosen, known, ranking = params.comparison, params.learning_curves, board.ranking
    curves = [known[alias] for alias in board.aliases if alias in known]
    if not curves:
        return []
    confidence = 1 - (1 - chosen.confidence) / len(curves)
    found = []
    for aliases in curves:
        ends = [aliases[-1], aliases[-2]]
        panel = Panel(*upward(score_array(runs, ends, "test", ranking), ranking))
        pair = np.array([(0, 1)])
        (gain,) = compare(panel, pair, confidence, chosen.num_resamples, RANDOM_SEED)
        relation = relation_of(gain, confidence, chosen.smallest_that_matters)
        points = _points(params, board, runs, aliases)
        told = gain.negated if ranking.lower_is_better else gain
        said = sentence_of(chosen, board, points, told, relation)
        found.append(LearningCurve(points, told, said))
    return found


def _points(
    params: Params, board: Leaderboard, runs: Sequence[RunResult], aliases: list[str]
) -> list[CurvePoint]:
    chosen = params.comparison
    val, test = (
        intervals(
            Panel(*score_array(runs, aliases, split, board.ranking)),
            *(chosen.confidence, board.ranking.most),
        )
        for split in ("val", "test")
    )
    # As the leaderboard has it, whose intervals know the seeds of the other rivals.
    (whole,) = (row for row in board.rows if row.alias == aliases[-1])
    val[-1], test[-1] = whole.val, whole.test
    groups = [sorted(_groups(run) for run in runs if run.alias == alias) for alias in aliases]
    return [
        CurvePoint(alias, params.candidates[alias].train_share, (own[0], own[-1]), *scores)
        for alias, own, *scores in zip(aliases, groups, val, test, strict=True)
    ]


def _groups(run: RunResult) -> int:
    """How many groups a run was trained on."""
    if "train_groups" not in run.trained:
        stage = f"train@{RunKey(run.alias, run.fold, run.seed).item}"
        raise InputError(
            f"{run.name}: its run file has no 'train_groups', so an earlier version trained it; "
            f"train it again: 'segbench repro -f -s {stage}'"
        )
    return int(run.trained["train_groups"])


def sentence_of(
    params: Comparison,
    board: Leaderboard,
    points: Sequence[CurvePoint],
    gain: Difference,
    relation: Relation,
) -> str:
    """Whether more training groups would help, going by the last step of a curve.

    Args:
        params: the section.
        board: the leaderboard, of the same runs and test images.
        points: of the curve, smallest share first.
        gain: of the last over the one before.
        relation: what the gain says of the last.
    """
    before, whole = points[-2:]
    once = board.design == "one training"
    value = gain.interval if gain.interval.mean >= 0 else gain.interval.turned
    moved = f"{'gained' if gain.interval.mean >= 0 else 'lost'} {board.ranking.name}"
    if board.ranking.lower_is_better:
        moved = f"{'raised' if gain.interval.mean >= 0 else 'lowered'} {board.ranking.name} by"
    said = (
        f"{'As trained here, from' if once else 'From'} {100 * before.share:g} % to all of the "
        f"{whole.groups_text} training groups, {whole.alias} "
        f"{moved} {interval_text(value)}{board.ranking.unit_text} on test"
    )
    if np.isinf(resolvable(gain)):
        return f"{said}; the test set has too few groups to tell that from chance."
    times = "twice" if before.share == 0.5 else f"{1 / before.share:.2g} times"
    within = f"{params.smallest_that_matters:g}{board.ranking.unit_text}"
    conclusions: dict[Relation, str] = {
        "better": "more training groups would probably help.",
        "equivalent": f"that is within {within}, so {times} as many training groups would "
        "hardly help.",
        "undecided": "no evidence that more training groups would help, nor that they would not.",
        "worse": "the groups that the smaller share leaves out did not help; see whether their "
        "masks are as good as the others.",
    }
    seeds = f"{FEWEST_SEEDS} seeds or " * (not board.group_limit)
    limit = (
        " This holds for these trained networks; how much of it is chance in training takes "
        f"{seeds}{FEWEST_FOLDS} folds to say."
    )
    return f"{said}: {conclusions[relation]}{limit if once and relation != 'undecided' else ''}"
