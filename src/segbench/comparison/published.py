"""Published scores beside the champion's: what can be compared, and how sure a difference is.

A score can be compared with one of the same metric and averaging, over as many classes, on a split
of the same kind. All else is listed with the reason why not, and without a probability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.comparison.leaderboard import Leaderboard
from segbench.comparison.scores import Scores, column_arrays
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
    needed = [
        columns_of(score.metric, score.averaging, scheme.scored)
        for score, reason in zip(published, reasons, strict=True)
        if not reason
    ]
    ordered = sorted(runs, key=lambda run: aliases.index(run.alias))
    columns = column_arrays(ordered, aliases, "test", sorted({*chain.from_iterable(needed)}))
    found = []
    for score, reason in zip(published, reasons, strict=True):
        measured = None
        if not reason:
            measured = measure(score.metric, score.averaging, columns, params, ordered)
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


def columns_of(metric: str, averaging: str, class_ids: Sequence[int]) -> list[str]:
    """Columns of the rows of images that a score over some classes is made of; see `measure`."""
    if averaging == "per_image":
        return [metric]
    if averaging == "batch":
        return ["object_size"]  # any, for its groups
    cells = [f"{cell}_{at}" for cell in counts.COUNTS for at in class_ids]
    return [*cells, "accuracy"]


def measure(
    metric: str,
    averaging: str,
    columns: Mapping[str, Scores],
    params: Params,
    runs: Sequence[RunResult],
) -> Measured:
    """Test scores of candidates, such that their weighted mean is the score as it was averaged.

    Args:
        metric: one that is measured; see `unmeasured`.
        averaging: see `PublishedScore.averaging`.
        columns: of the rows of images, those that it needs.
        params: all of them.
        runs: of all candidates, in the order of the board.
    """
    if averaging == "batch":
        return _of_batches(runs, columns["object_size"], params.evaluate.batch_size)
    if averaging == "per_image":
        values, groups, folds, _ = columns[metric]
        return Measured(values, None, groups, folds, int((~np.isnan(values)).any((0, 1)).sum()))
    scores, groups, folds, _ = columns["accuracy"]
    of_classes = [
        [own.values for name, own in columns.items() if name.startswith(f"{cell}_")]
        for cell in counts.COUNTS
    ]
    cells = [np.sum(own, axis=0) for own in of_classes]  # of all classes, each (C, S, N)
    if metric == "accuracy":
        values = scores
        weights = np.sum([own[0] for own in of_classes], axis=0)  # the pixels, by any class
    else:
        part, weights = counts.RATIOS[metric](*cells)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = part / weights
    return Measured(values, normalised(weights, folds), groups, folds, len(groups))


def normalised(weights: Floats, folds: NDArray[np.int64]) -> Floats:
    """Weights (C, S, N) that sum to 1 in each run, since a score is the mean over runs."""
    found = weights.astype(float)
    with np.errstate(invalid="ignore"):
        for fold in np.unique(folds):
            found[:, :, folds == fold] /= found[:, :, folds == fold].sum(axis=2, keepdims=True)
    return found


def _of_batches(runs: Sequence[RunResult], listed: Scores, batch_size: int) -> Measured:
    """Soft dice, each image and class weighted by its part of a batch's denominator.

    Args:
        runs: of all candidates, in the order of the board.
        listed: any scores of the same images, for their groups and folds.
        batch_size: `evaluate.batch_size`.
    """
    aliases = list(dict.fromkeys(run.alias for run in runs))
    seeds, folds = sorted({run.seed for run in runs}), np.unique(listed.folds)
    found = {(run.alias, run.seed, run.fold): _soft(run, batch_size) for run in runs}
    values, weights = (
        np.array(
            [
                [
                    np.concatenate([found[alias, seed, fold][at].ravel() for fold in folds])
                    for seed in seeds
                ]
                for alias in aliases
            ]
        )
        for at in (0, 1)
    )
    classes = values.shape[2] // len(listed.groups)
    groups, of_fold = np.repeat(listed.groups, classes), np.repeat(listed.folds, classes)
    return Measured(values, weights, groups, of_fold, len(listed.groups))


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
