"""Scores of all runs on the same images, as the statistics take them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.comparison.ranking import OfImages, Ranking
from segbench.comparison.statistics.panel import Floats, Numbers
from segbench.errors import InputError
from segbench.evaluation.results import RunResult
from segbench.params.compare import RunKey


class Scores(NamedTuple):
    """Scores of candidates on the same images, those of several folds side by side.

    Attributes:
        values: (C, S, N) of candidates, seeds and images, NaN where an image has none.
        groups: (N,) the group of each image.
        folds: (N,) the fold in which it was scored.
        weights: (C, S, N) of the values; None where all weigh the same.
    """

    values: Floats
    groups: NDArray[np.str_]
    folds: Numbers
    weights: Floats | None = None


@dataclass(frozen=True)
class Images:
    """The images of a split, on which all runs were scored.

    Attributes:
        runs: by candidate, seed and fold.
        aliases, seeds, folds: C candidates, S seeds and K folds, in the order of arrays.
        groups: (N,) the group of each image, folds side by side.
        fold_of: (N,) the fold in which it was scored.
    """

    runs: dict[tuple[str, int, int], RunResult]
    aliases: Sequence[str]
    seeds: list[int]
    folds: list[int]
    groups: NDArray[np.str_]
    fold_of: Numbers

    def stack(self, values: Callable[[RunResult], NDArray[np.generic]]) -> Floats:
        """(C, S, N) of what is (n,) of a run."""
        found = [
            [
                np.concatenate([values(self.runs[alias, seed, fold]) for fold in self.folds])
                for seed in self.seeds
            ]
            for alias in self.aliases
        ]
        return np.array(found, float)


def images_of(runs: Sequence[RunResult], aliases: Sequence[str], split: str) -> Images:
    """The images of a split.

    Args:
        runs: of all candidates, folds and seeds.
        aliases: C candidates, in the order of arrays.
        split: `val`, `test` or `external`.

    Raises:
        InputError: if runs were not scored on the same images.
    """
    seeds = sorted({run.seed for run in runs})
    folds = sorted({run.fold for run in runs})
    own = {(run.alias, run.seed, run.fold): run for run in runs}
    naming = ["id", "group"]
    parts = {key: run.images.loc[run.images["split"] == split, naming] for key, run in own.items()}
    for fold in folds:
        first = parts[aliases[0], seeds[0], fold]
        for (alias, seed, other), part in parts.items():
            if other == fold and not np.array_equal(part, first):
                raise InputError(
                    f"{RunKey(alias, fold, seed).name} was scored on other {split} images than "
                    f"{RunKey(aliases[0], fold, seeds[0]).name}, so they cannot be compared; run "
                    "'segbench repro', or take one off comparison.candidates"
                )
    groups = [parts[aliases[0], seeds[0], fold]["group"].to_numpy(str) for fold in folds]
    fold_of = np.repeat(folds, [len(part) for part in groups])
    return Images(own, aliases, seeds, folds, np.concatenate(groups), fold_of)


def column_arrays(
    runs: Sequence[RunResult], aliases: Sequence[str], split: str, columns: Sequence[str]
) -> dict[str, Scores]:
    """Columns of the rows of images as arrays, by name; see `images_of`."""
    images = images_of(runs, aliases, split)

    def column(name: str) -> Callable[[RunResult], NDArray[np.generic]]:
        return lambda run: run.images.loc[run.images["split"] == split, name].to_numpy()

    return {
        name: Scores(images.stack(column(name)), images.groups, images.fold_of) for name in columns
    }


def score_array(
    runs: Sequence[RunResult], aliases: Sequence[str], split: str, ranking: Ranking
) -> Scores:
    """What ranks, as arrays; see `images_of`.

    Raises:
        InputError: if runs were not scored on the same images, or one has no score.
    """
    scores = arrays_of(images_of(runs, aliases, split), split, ranking)
    for alias, own in zip(aliases, scores.values, strict=True):
        if np.isnan(own).all():
            raise InputError(
                f"{alias}: no {split} image defines its {ranking.name}, as where none has an "
                "object, so it cannot be ranked; use a split that has foreground"
            )
    return scores


def arrays_of(images: Images, split: str, ranking: Ranking) -> Scores:
    """What images say of a metric, as arrays; it may be nothing."""
    found: dict[str, OfImages] = {
        run.name: ranking.of_images(run, split) for run in images.runs.values()
    }
    values = images.stack(lambda run: found[run.name].values)
    weights = None
    if any(one.weights is not None for one in found.values()):
        weights = images.stack(lambda run: _weights(found[run.name]))
    return Scores(values, images.groups, images.fold_of, weights)


def _weights(one: OfImages) -> Floats:
    """That sum to 1, since a score of several runs is the mean of theirs."""
    even = np.full(len(one.values), 1 / max(len(one.values), 1))
    return even if one.weights is None else one.weights


def upward(scores: Scores, ranking: Ranking) -> Scores:
    """The same such that higher is better."""
    return scores._replace(values=ranking.upward(scores.values))


def normalised(weights: Floats, folds: NDArray[np.int64]) -> Floats:
    """Weights (C, S, N) that sum to 1 in each run, since a score is the mean over runs."""
    found = weights.astype(float)
    with np.errstate(invalid="ignore"):
        for fold in np.unique(folds):
            found[:, :, folds == fold] /= found[:, :, folds == fold].sum(axis=2, keepdims=True)
    return found
