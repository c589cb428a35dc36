"""Subgroups: how candidates do on kinds of test images, since a mean hides where one fails."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
        scores: (C,) mean of each candidate over them and over seeds; NaN where none has a score.
    """

    kind: str
    label: str
    images: int
    scores: list[float]


def find_subgroups(runs: list[RunResult], aliases: Sequence[str], metric: str) -> list[Subgroup]:
    """Test images by stratum, object size (thirds), number of objects, and group.

    Args:
        runs: of all candidates.
        aliases: C candidates, in the order of the scores.
        metric: a column of the rows of images.
    """
    rows = pd.concat([run.images.assign(alias=run.alias, fold=run.fold) for run in runs])
    rows = rows[rows["split"] == "test"]
    found = []
    for kind, labels in _kinds(rows, metric).items():
        for label in dict.fromkeys(labels.dropna().sort_values()):
            part = rows[labels.to_numpy() == label]
            means = part.groupby("alias")[metric].mean()
            number = len(part[["fold", "id"]].drop_duplicates())
            text = label if isinstance(label, str) else str(label)
            found.append(Subgroup(kind, text, number, [float(means[alias]) for alias in aliases]))
    return found


def _kinds(rows: pd.DataFrame, metric: str) -> dict[str, pd.Series]:
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
    objects = rows["num_objects"].clip(upper=MANY_OBJECTS).astype(int)
    kinds["objects"] = objects.astype(str).where(objects < MANY_OBJECTS, f"{MANY_OBJECTS} or more")
    groups = rows.groupby("group")[metric].mean().sort_values(kind="stable")
    if 1 < len(groups) < rows["id"].nunique():
        hardest = groups.index[:MOST_GROUPS]
        kind = "group" if len(hardest) == len(groups) else "hardest groups"
        kinds[kind] = rows["group"].where(rows["group"].isin(hardest))
    return {kind: labels for kind, labels in kinds.items() if labels.nunique() > 1}
