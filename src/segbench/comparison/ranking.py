"""The metric that ranks: which way is better, in which unit, and what each image says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.comparison.statistics.panel import Floats
from segbench.errors import InputError
from segbench.evaluation.results import RunResult
from segbench.labels import CLASS_DICE
from segbench.metrics import counts
from segbench.metrics.catalogue import DEFINITIONS
from segbench.metrics.counts import Counts
from segbench.params import Params
from segbench.params.compare import MOST_THAT_MATTERS, too_large, weights_of
from segbench.params.datasets import Folder
from segbench.params.metric_names import MEANS_OF_CLASSES, MetricName, names_said, parts_of
from segbench.params.section import did_you_mean


class OfImages(NamedTuple):
    """What N images of a split say of a metric, which is their weighted mean.

    Attributes:
        values: (N,), NaN where an image says nothing.
        weights: (N,) that sum to 1; None where all images weigh the same.
    """

    values: Floats
    weights: Floats | None


def mean_of(parts: Sequence[OfImages]) -> float:
    """Mean over images and runs; NaN where no image says anything.

    Args:
        parts: of each run.
    """
    values = np.concatenate([part.values for part in parts])
    weights = np.concatenate(
        [np.ones_like(part.values) if part.weights is None else part.weights for part in parts]
    )
    there = ~np.isnan(values)
    total = weights[there].sum()
    return float((values[there] * weights[there]).sum() / total) if total > 0 else np.nan


@dataclass(frozen=True)
class Ranking:
    """The metric that ranks.

    Attributes:
        parts: of its name.
        lower_is_better: the lowest leads.
        unit: of its values: pixels or mm; empty if it has none.
        most: what no value is above.
        matters: the smallest difference that matters.
        class_weights: of classes by name, if it is their weighted mean.
    """

    parts: MetricName
    lower_is_better: bool
    unit: str
    most: float
    matters: float
    class_weights: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        """As params and the rows of images have it."""
        return "".join(self.parts)

    @property
    def unit_text(self) -> str:
        """The unit as it stands behind a number."""
        return f" {self.unit}" * bool(self.unit)

    @property
    def best(self) -> float:
        """What it is where nothing is wrong."""
        return 0.0 if self.lower_is_better else 1.0

    def with_mask(self, ending: str) -> "Ranking":
        """The same of another variant of masks."""
        return replace(self, parts=self.parts._replace(ending=ending))

    @property
    def by_default(self) -> "Ranking":
        """The same of masks by the default rule, at the same size."""
        return self.with_mask(self.parts.ending.removesuffix("_chosen"))

    @property
    def by_rule(self) -> "Ranking":
        """The same of masks by the chosen rule, at the same size."""
        return self.with_mask(f"{self.by_default.parts.ending}_chosen")

    @property
    def is_measured(self) -> bool:
        """Whether there is such a variant."""
        return self.parts.has_variants or not self.parts.ending

    def upward(self, values: Floats) -> Floats:
        """Values such that higher is better, as decisions are made of them."""
        return -values if self.lower_is_better else values

    def of_images(self, run: RunResult, split: str) -> OfImages:
        """What the images of a split say of it.

        Raises:
            InputError: if the run has no such score.
        """
        rows, stem = run.images[run.images["split"] == split], self.parts.stem
        if not (self.parts.is_pooled or self.parts.needs_classes):
            return OfImages(_column(run, rows, self.name), None)
        cells = run.counts[f"{split}{self.parts.ending}"]
        if score := self.parts.weighted:
            return OfImages(_weighted_classes(cells, score, self._weights(run)), None)
        if stem == "accuracy_micro":
            right = _column(run, rows, f"accuracy{self.parts.ending}")
            return _weighted(right, cells[:, 0].sum(axis=1))
        if by_class := self.parts.by_class:
            score, name = by_class
            found = cells[:, _class_at(run, name)]
            if not counts.held_classes(found[:, None])[0]:
                return OfImages(np.full(len(rows), np.nan), None)
            if self.parts.is_pooled:
                return _ratios(found, score)
            return OfImages(counts.SCORES[score](found), None)
        for score, mean in MEANS_OF_CLASSES.items():
            if stem == mean:
                return OfImages(counts.mean_ratio_parts(cells, score), None)
        if not counts.held_classes(cells).any():
            return OfImages(np.full(len(rows), np.nan), None)
        return _ratios(cells.sum(axis=1), stem.removesuffix("_micro"))

    def _weights(self, run: RunResult) -> list[float]:
        """(F,)."""
        try:
            return weights_of(self.class_weights or {}, _class_keys(run))
        except ValueError as error:
            raise InputError(f"{run.name}: {error}") from None


def ranking_of(params: Params) -> Ranking:
    """The metric that ranks.

    Raises:
        InputError: for a metric that no module provides, and a difference that it cannot have.
    """
    parts, chosen = params.rank_name, params.comparison
    if not parts.is_known and (parts.stem not in DEFINITIONS or parts.ending):
        raise InputError(
            f"comparison.metric: no metric '{chosen.metric}' is reported"
            f"{did_you_mean(chosen.metric, DEFINITIONS)}; take from {names_said()}: "
            f"{', '.join(DEFINITIONS)}"
        )
    one = DEFINITIONS.get(parts.stem)
    is_distance = one is not None and one.is_distance
    if not is_distance and chosen.smallest_that_matters >= MOST_THAT_MATTERS:
        said = too_large(chosen.smallest_that_matters, is_a_share=True)
        raise InputError(f"comparison.smallest_that_matters: {said}")
    has_spacing = isinstance(params.dataset, Folder) and params.dataset.spacing is not None
    at_own_size = "_original" in parts.ending or not parts.is_known
    return Ranking(
        parts,
        lower_is_better=one is not None and one.lower_is_better,
        unit=("mm" if has_spacing and at_own_size else "pixels") if is_distance else "",
        most=np.inf if is_distance else 1.0,
        matters=chosen.smallest_that_matters,
        class_weights=chosen.class_weights,
    )


def share_of(name: str) -> Ranking:
    """A metric of which more is better and that lies in 0 to 1, whatever ranks."""
    return Ranking(parts_of(name), False, "", 1.0, 0.0)


def _column(run: RunResult, rows: pd.DataFrame, column: str) -> Floats:
    if column not in rows:
        known = [*map(str, rows.select_dtypes("number"))]
        raise InputError(
            f"comparison.metric: {run.name} has no {column}{did_you_mean(column, known)}; name "
            "another metric, add it to evaluate.extra_metrics, or run 'segbench repro' if an "
            "earlier version scored it"
        )
    return rows[column].to_numpy(float)


def _class_keys(run: RunResult) -> list[str]:
    """Of the F classes that have a score, if there are several."""
    names = map(str, run.images)
    return [name.removeprefix(CLASS_DICE) for name in names if name.startswith(CLASS_DICE)]


def _weighted_classes(cells: Counts, score: str, weights: Sequence[float]) -> Floats:
    """(N,) weighted means over the classes of each image that have a score there.

    Args:
        cells: (N, F, 4); a class that no image holds has no score.
        score: of `counts.SCORES`.
        weights: (F,).
    """
    held = counts.held_classes(cells)
    values = counts.SCORES[score](cells[:, held])
    shares = np.where(np.isnan(values), 0.0, np.array(weights)[held])
    total = shares.sum(axis=1)
    found = (np.nan_to_num(values) * shares).sum(axis=1)
    return np.divide(found, total, out=np.full(len(cells), np.nan), where=total > 0)


def _class_at(run: RunResult, key: str) -> int:
    keys = _class_keys(run)
    if key not in keys:
        raise InputError(
            f"comparison.metric: {run.name} has no class with a score called '{key}'"
            f"{did_you_mean(key, keys)}; take from {', '.join(keys)}"
        )
    return keys.index(key)


def _ratios(cells: Counts, score: str) -> OfImages:
    """A ratio of the pixels (N, 4) of all images: a mean of ratios by their denominators."""
    part, whole = counts.RATIOS[score](*np.moveaxis(cells, -1, 0))
    if not whole.any():
        return OfImages(np.full(len(cells), counts.SCORES[score](cells.sum(axis=0))), None)
    values = np.divide(part, whole, out=np.full(len(cells), np.nan), where=whole > 0)
    return _weighted(values, whole)


def _weighted(values: Floats, weights: NDArray[np.int64]) -> OfImages:
    return OfImages(values, weights / max(int(weights.sum()), 1))
