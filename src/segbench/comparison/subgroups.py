"""Subgroups: how candidates do on kinds of test images, since a mean hides where one fails."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.comparison.ranking import Ranking
from segbench.comparison.scores import Scores, score_array, upward
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.uncertainty import intervals
from segbench.evaluation.results import RunResult

MOST_GROUPS = 10
"""Groups that are shown: those that are the hardest on average."""
MANY_OBJECTS = 3


@dataclass(frozen=True)
class Subgroup:
    """A kind of test images.

    Attributes:
        kind: what they are told apart by.
        label: which of them.
        images: how many, in all folds.
        scores: (C,) mean of each candidate over them and over seeds, with its interval; NaN where
            none has a score.
    """

    kind: str
    label: str
    images: int
    scores: list[Interval]


def find_subgroups(
    runs: list[RunResult], aliases: Sequence[str], ranking: Ranking, confidence: float
) -> list[Subgroup]:
    """Test images by stratum, object size (thirds), number of objects, and group, hardest first.

    Intervals are those of whole groups of images and of seeds; of a single group, of its images as
    if they were independent.

    Args:
        runs: of all candidates.
        aliases: C candidates, in the order of the scores.
        ranking: the metric.
        confidence: of each interval for itself.
    """
    scores = score_array(runs, aliases, "test", ranking)
    rows = _rows(runs, aliases[0], upward(scores, ranking))
    found = []
    for kind, labels in _kinds(rows).items():
        for label in dict.fromkeys(labels.dropna().sort_values()):
            part = (labels == label).to_numpy()
            means = _means(scores, part, confidence, ranking.most)
            found.append(Subgroup(kind, str(label), int(part.sum()), means))
    return found


def _means(
    scores: Scores, part: NDArray[np.bool_], confidence: float, most: float
) -> list[Interval]:
    values, groups = scores.values[:, :, part], scores.groups[part]
    if np.isnan(values).all():
        return [Interval(np.nan, np.nan, np.nan)] * len(values)
    if len(np.unique(groups)) == 1:
        groups = np.arange(len(groups)).astype(str)
    weights = None if scores.weights is None else scores.weights[:, :, part]
    return intervals(Panel(values, groups, scores.folds[part], weights), confidence, most)


def _rows(runs: list[RunResult], alias: str, scores: Scores) -> pd.DataFrame:
    """What is known of each test image, in the order of the scores, with the mean score of all, of
    which higher is better."""
    first: dict[int, pd.DataFrame] = {}
    for run in runs:
        if run.alias == alias and run.fold not in first:
            first[run.fold] = run.images[run.images["split"] == "test"]
    rows = pd.concat([first[fold] for fold in sorted(first)], ignore_index=True)
    there = ~np.isnan(scores.values)
    total = np.where(there, scores.values, 0.0).sum(axis=(0, 1))
    with np.errstate(invalid="ignore"):
        return rows.assign(mean=total / there.sum(axis=(0, 1)))


def _kinds(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """A label for each row, by kind; nothing where all images are of one sort."""
    kinds = {"stratum": rows["stratum"]}
    there = rows[rows["object_size"] > 0]["object_size"]
    bounds = there.quantile([1 / 3, 2 / 3]).to_numpy()
    if len(there) and bounds[0] < bounds[1]:
        small, large = (f"{100 * bound:.2g} %" for bound in bounds)
        names = [
            "0: nothing there",
            f"1: below {small}",
            f"2: {small} to {large}",
            f"3: above {large}",
        ]
        index = np.where(
            rows["object_size"] > 0, 1 + np.searchsorted(bounds, rows["object_size"]), 0
        )
        kinds["object size"] = pd.Series(np.array(names)[index], rows.index)
    if rows["num_objects"].notna().all():  # else there is no background between objects
        objects = rows["num_objects"].clip(upper=MANY_OBJECTS).astype(int)
        many = f"{MANY_OBJECTS} or more"
        kinds["objects"] = objects.astype(str).where(objects < MANY_OBJECTS, many)
    groups = rows.groupby("group")["mean"].mean().sort_values(kind="stable")
    if 1 < len(groups) < rows["id"].nunique():
        hardest = groups.index[:MOST_GROUPS]
        kind = "group" if len(hardest) == len(groups) else "hardest groups"
        known = rows["group"].where(rows["group"].isin(hardest))
        kinds[kind] = known.astype(pd.CategoricalDtype(hardest, ordered=True))
    return {kind: labels for kind, labels in kinds.items() if labels.nunique() > 1}
