"""Published scores beside the champion's: what can be compared, and how sure a difference is.

A score can be compared with one of the same metric and averaging, over as many classes, on a split
of the same kind. All else is listed with the reason why not, and without a probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.comparison.leaderboard import Leaderboard
from segbench.comparison.ranking import share_of
from segbench.comparison.scores import Images, arrays_of, images_of
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Floats, Panel
from segbench.comparison.statistics.published import Reported, Versus, compare_with
from segbench.comparison.statistics.uncertainty import intervals
from segbench.comparison.verdict import interval_text
from segbench.evaluation.results import RunResult, read_soft
from segbench.labels import LabelScheme
from segbench.metrics import counts
from segbench.metrics.catalogue import DEFINITIONS
from segbench.params import Params
from segbench.params.compare import Comparison
from segbench.params.published import PublishedScore
from segbench.params.section import did_you_mean

Outcome = Literal["ours is better", "published is better", "undecided", "not comparable"]


@dataclass(frozen=True)
class PublishedRow:
    """A published score beside the champion's.

    Attributes:
        score: as published.
        alias: of the champion.
        words: the metric and its averaging.
        outcome: by `comparison.confidence`.
        reason: why they cannot be compared, or how sure the difference is, in words.
        ours: the champion's score of that metric and averaging, also beside one that cannot be
            compared; None where it is not measured.
        versus: the comparison; None without one.
    """

    score: PublishedScore
    alias: str
    words: str
    outcome: Outcome
    reason: str
    ours: Interval | None
    versus: Versus | None

    @property
    def is_bounded(self) -> bool:
        """Whether there is a probability."""
        return self.versus is not None and not np.isnan(self.versus.p_ours)

    @property
    def sentence(self) -> str:
        """For a terminal."""
        beside = f"; {self.alias} reaches {interval_text(self.ours)}" if self.ours else ""
        return (
            f"Published by {self.score.name}: {self.words}, {self.score.mean:.3f} of "
            f"{self.score.images} images{beside}. {self.outcome.capitalize()}: {self.reason}."
        )


class Measured(NamedTuple):
    """Scores as `Panel` takes them: see there.

    Attributes:
        values, weights: (C, S, N).
        groups, folds: (N,).
        images: that have a score.
    """

    values: Floats
    weights: Floats | None
    groups: NDArray[np.str_]
    folds: NDArray[np.int64]
    images: int


def judge_published(
    params: Params,
    scheme: LabelScheme,
    audit: dict[str, Any],
    runs: Sequence[RunResult],
    board: Leaderboard,
) -> list[PublishedRow]:
    """Each score of `comparison.published` beside the champion's.

    Args:
        params: all of them.
        scheme: of the dataset's classes.
        audit: what the split stage counted.
        runs: of all candidates.
        board: the leaderboard.
    """
    published, aliases = params.comparison.published, board.aliases
    if not published:
        return []
    test = runs[0].images[runs[0].images["split"] == "test"]
    is_torn = any(audit[f"fold{fold}"]["leaks"]["groups"] for fold in params.comparison.folds)
    is_grouped = is_torn or bool(test["group"].duplicated().any())
    reasons = [unmeasured(score.metric, score.averaging, runs) for score in published]
    found = []
    for score, reason in zip(published, reasons, strict=True):
        measured = None
        if not reason:
            measured = measure(score.metric, score.averaging, params, runs, aliases)
        differs = class_difference(score.num_classes, scheme.num_classes) or split_difference(
            score.split, params.split.by, is_torn, is_grouped
        )
        found.append(_judge(params, score, aliases[0], measured, reason, differs))
    return found


def class_difference(published: int, own: int) -> str:
    """Why scores over so many classes cannot be compared; empty if they can."""
    return "" if published == own else f"it is over {published} classes, ours over {own}"


def split_difference(published: str, by: str, is_torn: bool, is_grouped: bool) -> str:
    """Why scores on two splits cannot be compared; empty if they can.

    Args:
        published: how the published images were split; see `PublishedScore.split`.
        by: `split.by`.
        is_torn: groups of ours are on both sides of the split.
        is_grouped: several images of ours share a group.
    """
    if published == "unknown":
        return "how its images were split is not known"
    if published == "predefined":
        on = "" if by == "predefined" else f"ours on a split by {by}"
        return on and f"it is on the dataset's own lists, {on}"
    if published == "random":
        kept = is_grouped and not is_torn
        return "its images were split at random, ours keeps groups together" if kept else ""
    if is_torn:
        return "its groups were kept together, ours are on both sides of the split"
    return "" if is_grouped else "its groups were kept together, of ours none is known"


def _judge(
    params: Params,
    score: PublishedScore,
    alias: str,
    measured: Measured | None,
    reason: str,
    differs: str,
) -> PublishedRow:
    """A score beside that of the champion, the first in `measured`, which is None for `reason`."""
    chosen = params.comparison
    words = {
        "per_image": f"{score.metric}, mean over images",
        "pooled": f"{score.metric}, all pixels pooled",
        "batch": f"soft {score.metric}, mean over batches",
    }[score.averaging]

    def row(outcome: Outcome, reason: str, versus: Versus | None = None) -> PublishedRow:
        return PublishedRow(score, alias, words, outcome, reason, ours, versus)

    ours: Interval | None = None
    if measured is None:
        return row("not comparable", reason)
    if np.isnan(measured.values[0]).all(axis=-1).any():
        return row("not comparable", "nothing defines ours")
    known = ~np.isnan(measured.values).all(axis=(1, 2))
    panel = Panel(
        measured.values[known],
        measured.groups,
        measured.folds,
        None if measured.weights is None else measured.weights[known],
    )
    ours = intervals(panel, chosen.confidence)[0]
    if differs:
        return row("not comparable", differs)
    reported = Reported(score.mean, score.images, score.sd)
    spread = _spread(measured.values[0]) if score.sd is not None else np.nan
    versus = compare_with(panel, 0, measured.images, spread, reported, chosen.confidence)
    return row(*_outcome(versus, chosen), versus)


def _spread(values: Floats) -> float:
    """Standard deviation of single images of one training, from (S, N)."""
    known = ~np.isnan(values)
    number = known.sum(axis=1, keepdims=True)
    around = np.where(known, values, 0.0)
    around = np.where(known, values - around.sum(axis=1, keepdims=True) / number, 0.0)
    return float(np.sqrt((around**2).sum() / max(number.sum() - len(values), 1)))


def _outcome(versus: Versus, params: Comparison) -> tuple[Outcome, str]:
    p = versus.p_ours
    if np.isnan(p):
        said = "ours is of one group of test images, or the same in all, so that nothing bounds it"
        return "undecided", said
    if p >= params.confidence:
        return "ours is better", f"with a probability of {chance_text(p)}"
    if 1 - p >= params.confidence:
        return "published is better", f"with a probability of {chance_text(1 - p)}"
    return "undecided", f"ours is better with a probability of {chance_text(p)}"


def chance_text(p: float) -> str:
    """97 %; never 0 or 100; - for NaN."""
    if np.isnan(p):
        return "-"
    if p > 0.99:
        return "over 99 %"
    return "under 1 %" if p < 0.01 else f"{100 * p:.0f} %"


def unmeasured(metric: str, averaging: str, runs: Sequence[RunResult]) -> str:
    """Why a score of ours does not exist; empty if it does."""
    shares = [
        name
        for name, one in DEFINITIONS.items()
        if not one.lower_is_better and name in runs[0].images
    ]
    known = {"per_image": shares, "pooled": [*counts.SCORES, "accuracy"], "batch": ["dice"]}
    if metric in known[averaging]:
        return ""
    how = {"per_image": "as a mean over images", "pooled": "pooled", "batch": "over batches"}
    return f"{metric} is not measured here {how[averaging]}{did_you_mean(metric, known[averaging])}"


def measure(
    metric: str,
    averaging: str,
    params: Params,
    runs: Sequence[RunResult],
    aliases: Sequence[str],
) -> Measured:
    """Test scores of candidates, such that their weighted mean is the score as it was averaged.

    Args:
        metric: one that is measured; see `unmeasured`.
        averaging: see `PublishedScore.averaging`.
        params: all of them.
        runs: of all candidates.
        aliases: of the candidates, in the order of the board.
    """
    images = images_of(runs, aliases, "test")
    if averaging == "batch":
        return _of_batches(images, params.evaluate.batch_size)
    name = metric if averaging == "per_image" else f"{metric}_micro"
    values, groups, folds, weights = arrays_of(images, "test", share_of(name))
    number = int((~np.isnan(values)).any((0, 1)).sum()) if weights is None else len(groups)
    return Measured(values, weights, groups, folds, number)


def _of_batches(images: Images, batch_size: int) -> Measured:
    """Soft dice, each image and class weighted by its part of a batch's denominator.

    Args:
        images: of the test set.
        batch_size: `evaluate.batch_size`.
    """
    found = {run.name: _soft(run, batch_size) for run in images.runs.values()}
    values = images.stack(lambda run: found[run.name][0].ravel())
    weights = images.stack(lambda run: found[run.name][1].ravel())
    classes = values.shape[2] // len(images.groups)
    groups, of_fold = np.repeat(images.groups, classes), np.repeat(images.fold_of, classes)
    return Measured(values, weights, groups, of_fold, len(images.groups))


def _soft(run: RunResult, batch_size: int) -> tuple[Floats, Floats]:
    """Soft dice (N, F) of the images of a run, by id, and weights that sum to 1."""
    ids, sums = read_soft(run)
    within, both = np.moveaxis(sums.astype(float), -1, 0)
    of_batch = np.add.reduceat(both, np.arange(0, len(both), batch_size), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        soft = 2 * within / both
        weights = both / np.repeat(of_batch, batch_size, axis=0)[: len(both)]
        weights /= np.nansum(weights)
    by_id = np.argsort(np.array(ids))
    return soft[by_id], weights[by_id]
