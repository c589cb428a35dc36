"""What the report says beside its tables."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segbench.comparison.class_scores import ClassScore
from segbench.comparison.content import Content
from segbench.comparison.leaderboard import Leaderboard, LeaderboardRow
from segbench.comparison.statistics.panel import Design
from segbench.metrics.catalogue import DEFINITIONS
from segbench.params import Params
from segbench.report.words import counted, listed

MOST_NAMED = 3
"""Classes, and pairs of classes, that a sentence names."""
OFTEN = 0.05
"""Share of a class's pixels from which a sentence says for what they are taken."""

CLAIMS: dict[Design, str] = {
    "one training": "All this is said of these trained networks: a permutation test swaps two "
    "candidates in whole groups of test images.",
    "seeds": "It is said of networks that are trained anew on these training images: p is the "
    "larger of a permutation test over groups of test images and of a t test with the variance of "
    "groups and seeds.",
    "folds": "It is said of networks that are trained anew on other images: p is the larger of a "
    "permutation test over groups of test images and of a t test over folds.",
}
"""What p and intervals speak of, by what varies."""

VARIANT_WORDS = {
    "": "at evaluate.threshold, at the network's size",
    "_chosen": "by the rule chosen on validation, at the network's size",
    "_original": "at evaluate.threshold, at each image's own size",
    "_original_chosen": "by the rule chosen on validation, at each image's own size",
}


def contents(content: Content) -> dict[str, str]:
    """The sections of the page by id, in the order in which a reviewer asks."""
    classes = len(content.header.dataset.scheme.scored)
    elsewhere = content.external or content.published or content.learning_curves
    return {
        "certainty": "How sure?",
        **({"classes": "Classes"} if classes > 1 else {}),
        "cost": "Costs",
        "failures": "Failures",
        **({"elsewhere": "Elsewhere"} if elsewhere else {}),
        "scores": "Other metrics",
        "training": "Training",
        "data": "Data",
        "provenance": "Repeat it",
    }


def first_note(content: Content) -> str:
    """What the first screen needs to be read rightly."""
    chosen, board = content.params.comparison, content.leaderboard
    images = sum(content.audit[f"fold{fold}"]["test"]["images"] for fold in chosen.folds)
    order = (
        " Candidates are in the order of their validation scores; those that share a rank cannot "
        "be told apart."
        if len(board.rows) > 1
        else ""
    )
    ranking = board.ranking
    told = ranking.name if ranking.parts.is_pooled else f"Mean {ranking.name} per image"
    told += f" in {ranking.unit}" * bool(ranking.unit)
    told += ", lower is better," * ranking.lower_is_better
    return (
        f"{told} of {counted(images, 'test image')} in "
        f"{counted(board.num_groups, 'group')}, {counted(board.rows[0].num_runs, 'training')} "
        "each, with "
        f"{100 * chosen.confidence:g} % intervals.{order}"
    )


def undefined(rows: list[LeaderboardRow]) -> list[str]:
    """Metrics that no test image defines for any candidate."""
    return [
        name
        for name in DEFINITIONS
        if name in rows[0].scores and all(np.isnan(row.scores[name]) for row in rows)
    ]


def published_assumed(params: Params, board: Leaderboard) -> str:
    """What the probabilities of published scores take for given."""
    confidence = params.comparison.confidence
    if board.design == "folds" or (board.num_seeds > 1 and board.num_folds == 1):
        trainings = "A published training is taken to vary as each of ours does."
    else:
        trainings = (
            "How much trainings vary is not known here: all is said of networks as they were "
            "trained, here and there."
        )
    batch = params.evaluate.batch_size
    soft = any(row.averaging == "batch" for row in params.comparison.published)
    return (
        "P is the probability that our score is truly the higher one, with no preference "
        "beforehand (after Christodoulou et al. 2025, arXiv 2505.04720); a verdict needs "
        f"{100 * confidence:g} % on one side, which chance gives to {200 * (1 - confidence):.2g} "
        "of 100 rows without any true difference. Published images are taken to come in groups as "
        "ours do and, without an sd in the row, to vary as ours do; and to be other images: where "
        f"they are the same, P is nearer to 50 % than it need be. {trainings} Published scores are "
        "often the best of several on their test set, and so optimistic; ours is the champion's, "
        "chosen on validation, at the size the networks see, with masks at evaluate.threshold."
        + (f" Our soft scores are means over batches of {batch}." if soft else "")
    )


def classes_said(alias: str, scores: Sequence[ClassScore]) -> str:
    """On which classes a candidate does worst and best; empty where fewer than two have a score.

    Args:
        alias: of the candidate.
        scores: of all classes and candidates.
    """
    own = [one for one in scores if one.alias == alias and not np.isnan(one.dice.mean)]
    own.sort(key=lambda one: one.dice.mean)
    if len(own) < 2:
        return ""
    worst = [f"{one.name} ({one.dice.mean:.3f})" for one in own[: min(MOST_NAMED, len(own) - 1)]]
    best = f"{own[-1].name} ({own[-1].dice.mean:.3f})"
    return f"{alias} does worst on {listed(worst)}, best on {best}."


def confusions_said(shares: NDArray[np.float64], names: Sequence[str]) -> str:
    """Which classes are most often taken for which; empty where none is often.

    Args:
        shares: (K, K) of the pixels of each true class, by predicted class.
        names: of the classes by id.
    """
    wrong = np.nan_to_num(shares - np.diag(np.diag(shares)))
    places = [divmod(int(at), len(names)) for at in np.argsort(-wrong, axis=None, kind="stable")]
    found = [
        f"{names[true]} for {names[taken]} ({100 * wrong[true, taken]:.0f} %"
        f"{' of its pixels' if at == 0 else ''})"
        for at, (true, taken) in enumerate(places[:MOST_NAMED])
        if wrong[true, taken] >= OFTEN
    ]
    return f"Most often it takes {listed(found)}." if found else ""


def failures_said(content: Content) -> str:
    """How bad the champion's worst test images are, and which group is the hardest."""
    alias, metric = content.leaderboard.aliases[0], content.leaderboard.ranking.name
    said = (
        f"{alias} scores {content.single_images.worst[0]:.3f} {metric} on the worst tenth of test "
        "images"
    )
    groups = [part for part in content.subgroups if part.kind in ("group", "hardest groups")]
    if groups:
        said += f"; the hardest group is {groups[0].label} ({groups[0].scores[0].mean:.3f})"
    return f"{said}."


def other_firsts(
    aliases: Sequence[str],
    ranked: Mapping[str, Sequence[int | None]],
    columns: Mapping[str, str],
) -> str:
    """Whether the champion has the best mean by every metric, and else who has.

    Args:
        aliases: of the candidates; the first is the champion.
        ranked: by column, the rank of each candidate.
        columns: what they are called.
    """
    known = {name: places for name, places in ranked.items() if places[0] is not None}
    others = {
        columns[name]: aliases[places.index(1)] for name, places in known.items() if places[0] != 1
    }
    if not others:
        return f"{aliases[0]} has the best mean by all {len(known)} metrics."
    said = f"{aliases[0]} has the best mean by {len(known) - len(others)} of {len(known)} metrics"
    return f"{said}; {listed([f'{first} by {name}' for name, first in others.items()])}."
