"""Made-up experiments whose truth is known, in the designs that people run."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from segbench.comparison.statistics.panel import Floats, Panel

Sizes = Literal["one", "equal", "one to six", "lognormal", "one holds half"]


@dataclass(frozen=True)
class Case:
    """A design, and what makes scores vary in it; standard deviations of dice.

    Attributes:
        candidates, seeds, folds, groups: how many.
        sizes: of groups, in images.
        of_seeds: between trainings of a candidate.
        of_training_sets: between folds, of each candidate for itself.
        unstable: the last candidate's trainings spread by 0.06, all others' by 0.004.
        bimodal: images are found or missed, so that scores are near 0.9 or 0.05.
        without_score: groups in which no candidate has a score.
        shared: share of the variance of seeds that all candidates have in common.
        lead: of the first candidate; all others are equally good.
    """

    candidates: int = 4
    seeds: int = 3
    folds: int = 1
    groups: int = 25
    sizes: Sizes = "one to six"
    of_seeds: float = 0.015
    of_training_sets: float = 0.0
    unstable: bool = False
    bimodal: bool = False
    without_score: int = 0
    shared: float = 0.0
    lead: float = 0.0


TRUTH = 0.8


def simulated(case: Case, rng: np.random.Generator, true: Floats | None = None) -> Panel:
    """An experiment; `true` (C,) is added to the candidates' means.

    Groups differ, in part for all candidates alike (0.06) and in part for each (0.03); so do images
    (0.05, with a long tail downwards, and 0.03). Each group is a test group in one fold.
    """
    sizes = _sizes(case, rng)
    group = np.repeat(np.arange(case.groups), sizes)
    fold = (rng.permutation(case.groups) % case.folds)[group]
    number = len(group)
    shape = case.candidates, case.seeds, case.folds
    spread = np.full(case.candidates, case.of_seeds)
    if case.unstable:
        spread = np.full(case.candidates, 0.004)
        spread[-1] = 0.06
    alone = rng.normal(size=shape) * spread[:, None, None]
    together = rng.normal(size=(1, *shape[1:])) * case.of_seeds
    trainings = np.sqrt(1 - case.shared) * alone + np.sqrt(case.shared) * together
    trainings = (
        trainings + rng.normal(size=(case.candidates, 1, case.folds)) * case.of_training_sets
    )
    all_images = (case.candidates, case.seeds, number)
    if case.bimodal:
        scores = _found_or_missed(case, rng, group, trainings[:, :, fold])
    else:
        scores = (
            TRUTH
            + rng.normal(0, 0.06, case.groups)[group]
            + rng.normal(0, 0.03, (case.candidates, 1, case.groups))[:, :, group]
            + trainings[:, :, fold]
            + 0.05 * (1 - rng.exponential(1, (1, 1, number)))
            + rng.normal(0, 0.03, all_images)
        )
    scores[0] += case.lead
    if true is not None:
        scores += true[:, None, None]
    if case.without_score:
        scores[:, :, group >= case.groups - case.without_score] = np.nan
    return Panel(scores, group.astype(str), fold)


def _sizes(case: Case, rng: np.random.Generator) -> np.ndarray:
    number = case.groups
    if case.sizes == "one":
        return np.ones(number, int)
    if case.sizes == "one to six":
        return rng.integers(1, 7, number)
    if case.sizes == "lognormal":
        return np.maximum(1, np.rint(np.exp(rng.normal(1.2, 0.9, number)))).astype(int)
    sizes = np.full(number, 3)
    if case.sizes == "one holds half":
        sizes[0] = 3 * (number - 1)
    return sizes


def _found_or_missed(
    case: Case, rng: np.random.Generator, group: np.ndarray, trainings: Floats
) -> Floats:
    shape = (case.candidates, case.seeds, len(group))
    ease = (
        rng.normal(size=case.groups)[group]
        + 0.4 * rng.normal(size=(case.candidates, 1, case.groups))[:, :, group]
        + 0.3 * rng.normal(size=shape)
        + trainings / 0.06
    )
    found, missed = 0.9 + 0.04 * rng.normal(size=shape), 0.05 + 0.04 * abs(rng.normal(size=shape))
    return np.where(ease > -1.2, found, missed)
