"""Facts: what the reader of a report must know of the data behind its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segbench.arrays.store import Header
from segbench.comparison.ranking import Ranking, ranking_of
from segbench.evaluation.results import RunResult
from segbench.params import Params

SPLIT_WORDS = {
    "group": "by groups",
    "random": "image by image, at random",
    "predefined": "as published",
}
"""What `split.by` does."""


def leaks(audit: Mapping[str, Any], folds: Sequence[int]) -> bool:
    """Whether the split stage found anything on both sides of the split, in any of the folds."""
    return any(any(audit[f"fold{fold}"]["leaks"].values()) for fold in folds)


def data_facts(
    params: Params, header: Header, audit: Mapping[str, Any], runs: list[RunResult]
) -> dict[str, str]:
    """The dataset, its split, and how it was scored, by label.

    Args:
        params: all of them.
        header: of the packed arrays.
        audit: what the split stage counted.
        runs: of all candidates.
    """
    chosen, dataset, patches = params.comparison, header.dataset, params.augment.patches
    folds = f"{params.split.num_folds} folds" if params.split.num_folds > 1 else "one fold"
    facts = {
        "Dataset": f"{dataset.name}, {dataset.licence}",
        "Classes": ", ".join(
            f"{name} (background, not scored)" if at == dataset.background else name
            for at, name in enumerate(dataset.classes)
        ),
        "Size": f"{header.width}x{header.height}, {header.channels} channels",
        "Split": (
            f"{SPLIT_WORDS[params.split.by]}, seed {params.split.seed}, {folds}; "
            f"{'leaks' if leaks(audit, chosen.folds) else 'no leak found'}"
        ),
    }
    if dataset.spacing:
        facts["Pixels"] = " x ".join(f"{one:g}" for one in dataset.spacing) + " mm (row, column)"
    if dataset.has_spacings:
        facts["Pixels"] = "each image has its own spacing in mm"
    if patches:
        facts["Scores"] = (
            f"of whole images, stitched from overlapping patches of {patches.width}x"
            f"{patches.height}; validation scores during training are of patches"
        )
    if params.evaluate.flips:
        facts["Prediction"] = "mean over each image and its three mirror images"
    if dataset.citation:
        facts["Cite"] = dataset.citation
    for split, label in (("val", "Validation"), ("test", "Test")):
        facts[label] = _count_images(runs, split, ranking_of(params))
    points = len(chosen.candidates) - len(params.rivals)
    facts["Runs"] = (
        f"{len(runs)}: {len(params.rivals)} candidates"
        + (f" and {points} smaller shares of training groups" if points else "")
        + f", seeds {chosen.seeds}, folds {chosen.folds}"
    )
    return facts


def _count_images(runs: list[RunResult], split: str, ranking: Ranking) -> str:
    """Images and groups, and how many images have no score in all runs, or in some."""
    rows = pd.concat([run.images[run.images["split"] == split] for run in runs])
    # Under cross-validation an image may be one of validation in several folds.
    values = np.concatenate([ranking.of_images(run, split).values for run in runs])
    without = pd.Series(np.isnan(values), rows.index).groupby([rows["id"], rows["group"]])
    in_all, in_some = int(without.all().sum()), int(without.any().sum())
    said = f"{len(without)} images in {rows['group'].nunique()} groups"
    if in_all:
        recall = ranking.parts.stem.startswith("recall")
        empty = "truth" if recall else "truth and prediction"
        said += f", {in_all} without score ({empty} empty)"
    if in_some > in_all:
        said += (
            f", {in_some - in_all} without score in some runs (the truth is empty: they count only "
            "where something is predicted)"
        )
    return said
