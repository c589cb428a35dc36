"""All that a report shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.arrays.store import Header
from segbench.comparison.class_scores import ClassScore
from segbench.comparison.examples import Example
from segbench.comparison.expenses import Expenses
from segbench.comparison.external import ExternalSet
from segbench.comparison.leaderboard import Leaderboard
from segbench.comparison.learning_curve import LearningCurve
from segbench.comparison.planning import Plan
from segbench.comparison.published import PublishedRow
from segbench.comparison.requirements import Requirement
from segbench.comparison.single_images import SingleImages
from segbench.comparison.subgroups import Subgroup
from segbench.comparison.verdict import Verdict
from segbench.evaluation.results import RunResult
from segbench.params import Params


@dataclass(frozen=True)
class Content:
    """All that the report shows.

    Attributes:
        params: all of them.
        header: of the packed arrays.
        audit: what the split stage counted; see `splits.split.score`.
        runs: of all candidates.
        leaderboard: the candidates in order, without points of learning curves.
        verdict: in words, with its caveats.
        plan: what comparisons of other sizes would find; None where nothing is compared.
        requirements: of the comparison, evaluated.
        expenses: what the candidates take.
        external: what the candidates score on other test sets.
        learning_curves: over shares of the training groups, of candidates that have one.
        published: what others reached, beside the champion.
        class_scores: of each class and candidate.
        confusion: (K, K) test pixels of the champion by true and predicted class id.
        subgroups: of the test images.
        single_images: how scores spread over test images.
        gallery: test images with predictions, by what they show.
        preview: picture of the augmentation.
        trained: the folder in which each run's training has its own.
        provenance: of the code and libraries.
    """

    params: Params
    header: Header
    audit: dict[str, Any]
    runs: list[RunResult]
    leaderboard: Leaderboard
    verdict: Verdict
    plan: Plan | None
    requirements: list[Requirement]
    expenses: Expenses
    external: list[ExternalSet]
    learning_curves: list[LearningCurve]
    published: list[PublishedRow]
    class_scores: list[ClassScore]
    confusion: NDArray[np.int64]
    subgroups: list[Subgroup]
    single_images: SingleImages
    gallery: dict[str, list[Example]]
    preview: Path
    trained: Path
    provenance: dict[str, str]
