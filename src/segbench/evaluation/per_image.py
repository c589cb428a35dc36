"""Scores of single images, their table, and summaries of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from segbench.datasets.canonical import DatasetInfo
from segbench.evaluation.drafts import Draft
from segbench.evaluation.postprocessing import MaskRule, large_mask_by, mask_by
from segbench.evaluation.predict import Prediction
from segbench.images import Pixels
from segbench.labels import CLASS_DICE, LabelScheme, class_keys
from segbench.metrics import boundary, counts
from segbench.metrics.catalogue import (
    DISTANCES,
    MASK_METRICS,
    OPTIONAL_METRICS,
    SHAPE_METRICS,
    SUMMARY_METRICS,
    TRUTH_COLUMNS,
    VARIANTS,
)
from segbench.metrics.counts import Counts
from segbench.metrics.definition import Evidence, OwnSize
from segbench.metrics.distances import PIXELS, Spacing
from segbench.metrics.on_device import soft_dice_batch
from segbench.metrics.probabilities import Histogram, average_precision, histogram


@dataclass(frozen=True)
class Begun:
    """What is known of an image before the mask rule is chosen.

    Attributes:
        row: scores by column.
        soft: (F, 2), see `on_device.soft_sums`.
        confused: (K, 3) true class, predicted class and number of pixels, where it is not 0.
    """

    row: dict[str, float]
    soft: NDArray[np.float32]
    confused: NDArray[np.uint32]


@dataclass(frozen=True)
class ImageScores(Begun):
    """Scores of an image.

    Attributes:
        row: scores by column, without the columns that identify the image.
        counts: (4, F, 4) of the masks of each of `VARIANTS`, see `counts.count_image`.
        correct: (2,) of the first of them, see `counts.count_image`.
    """

    counts: NDArray[np.uint32]
    correct: NDArray[np.int64]


@dataclass(frozen=True)
class Scorer:
    """Scores images, each on its own.

    Attributes:
        scheme: of the classes.
        tolerance: of the surface dice; in pixels, or, at an image's own size, the spacing's unit.
        default, chosen: mask rules.
        extra: names in `OPTIONAL_METRICS` and `SHAPE_METRICS`.
        absent: scored classes that no image of the split holds, see `absent_classes`; they are
            in no mean over the classes of an image.
    """

    scheme: LabelScheme
    tolerance: float
    default: MaskRule
    chosen: MaskRule
    extra: Sequence[str]
    absent: tuple[int, ...] = ()

    def score(self, default: Prediction, chosen: Prediction) -> ImageScores:
        """Score an image.

        Args:
            default, chosen: predictions of the network under each rule.
        """
        truth = default.original()
        plain = ruled = Draft.of(default, *truth.shape)
        if chosen is not default:
            ruled = Draft.of(chosen, *truth.shape)
        begun = self.begin(default, histogram(default.probs_u8, default.mask, self.scheme.scored))
        return self.finish(begun, plain, ruled, default.mask, truth, default.spacing)

    def begin(self, default: Prediction, own: Histogram) -> Begun:
        """The scores that do not depend on the chosen rule, but for those of masks.

        Args:
            default: what the network predicts under the default rule.
            own: its histogram (F, 2, 256).
        """
        row = {"average_precision": float(counts.mean_of_defined(average_precision(own)))}
        evidence = Evidence(default.pred_mask, default.mask, own, self.scheme.scored)
        for name in self.extra:
            if name in OPTIONAL_METRICS:
                row |= OPTIONAL_METRICS[name](evidence)
        matrix = counts.confusion(default.pred_mask, default.mask, self.scheme.num_classes)
        where = np.nonzero(matrix)
        confused = np.stack([*where, matrix[where]], axis=1).astype(np.uint32)
        return Begun(row, default.soft, confused)

    def finish(
        self,
        begun: Begun,
        default: Draft,
        chosen: Draft,
        mask: Pixels,
        truth: Pixels,
        spacing: Spacing,
    ) -> ImageScores:
        """Add the scores of masks by both rules.

        Args:
            begun: of `begin`.
            default, chosen: what the masks by each rule are made of.
            mask: (H, W) class ids, 255 where ignored, at the network's size.
            truth: (H', W') likewise, at the image's own.
            spacing: of the pixels of that.
        """
        ways, preds = [(default, self.default)], [default.pred_mask]
        if self.chosen != self.default:
            ways.append((chosen, self.chosen))
            preds.append(mask_by(self.chosen, chosen, self.scheme.background))
        at_network = at_original = self._of_masks(preds, mask, PIXELS)
        large = preds
        if truth.shape != mask.shape:
            size, background = truth.shape, self.scheme.background
            large = [large_mask_by(rule, draft, size, background) for draft, rule in ways]
        if truth.shape != mask.shape or spacing != PIXELS:
            at_original = self._of_masks(large, truth, spacing)
        found = (at_network[0], at_network[-1], at_original[0], at_original[-1])
        row = _of_truth(mask, self.scheme)
        for ending, (scores, *_) in zip(VARIANTS, found, strict=True):
            row |= {f"{name}{ending}": value for name, value in scores.items()}
        masks = OwnSize(large[0], truth, self._held, spacing, self.tolerance)
        for name in self.extra:
            if name in SHAPE_METRICS:
                row |= SHAPE_METRICS[name](masks)
        cells = np.stack([own for _, own, _ in found]).astype(np.uint32)
        return ImageScores(row | begun.row, begun.soft, begun.confused, cells, found[0][2])

    @property
    def _held(self) -> list[int]:
        """Scored classes that the split holds."""
        return [at for at in self.scheme.scored if at not in self.absent]

    def _of_masks(
        self, preds: list[Pixels], mask: Pixels, spacing: Spacing
    ) -> list[tuple[dict[str, float], Counts, Counts]]:
        """All metrics of masks (H, W) of one image, and its counts; see `counts.count_image`."""
        held = [at for at, id in enumerate(self.scheme.scored) if id not in self.absent]
        outlines = boundary.boundary_scores(preds, mask, self._held, self.tolerance, spacing)
        found = []
        for pred, of_outline in zip(preds, outlines.tolist(), strict=True):
            cells, correct = counts.count_image(pred, mask, self.scheme.scored)
            scores = counts.mean_of_defined(
                np.stack([score(cells[held]) for score in counts.SCORES.values()])
            )
            values = (*scores.tolist(), float(counts.accuracy(correct)), *of_outline)
            found.append((dict(zip(MASK_METRICS, values, strict=True)), cells, correct))
        return found


def absent_classes(masks: Iterable[Pixels], scheme: LabelScheme) -> tuple[int, ...]:
    """Scored classes of which no mask (H, W) has a pixel."""
    absent = set(scheme.scored)
    for mask in masks:
        if not absent:
            break
        absent -= set(np.flatnonzero(np.bincount(mask.ravel())).tolist())
    return tuple(sorted(absent))


def _of_truth(mask: Pixels, scheme: LabelScheme) -> dict[str, float]:
    """Share and number of objects; NaN without a background, where nothing parts them."""
    if scheme.background is None:
        return dict.fromkeys(TRUTH_COLUMNS, np.nan)
    there = scheme.is_foreground(mask).view(np.uint8)
    components, _ = cv2.connectedComponents(there, connectivity=8)
    return dict(zip(TRUTH_COLUMNS, (float(there.mean()), components - 1), strict=True))


def image_table(
    samples: pd.DataFrame, name: str, found: list[ImageScores], info: DatasetInfo
) -> pd.DataFrame:
    """One row per image: split, id, group, stratum, and scores; with several classes also the dice
    of each.

    Args:
        samples: N rows.
        name: of the split.
        found: the scores of its images, in that order.
        info: of the dataset.
    """
    rows = pd.DataFrame([image.row for image in found])
    cells = counts_of(found)[""]
    of_classes = pd.DataFrame(index=rows.index)
    if cells.shape[1] > 1:
        keys, held = class_keys(info.classes), counts.held_classes(cells)
        dice = np.where(held, counts.dice(cells), np.nan)
        names = [f"{CLASS_DICE}{keys[at]}" for at in info.scheme.scored]
        of_classes = pd.DataFrame(dice, columns=names)
    table = pd.concat([samples.reset_index(drop=True), rows, of_classes], axis=1)
    table.insert(0, "split", name)
    return table


def counts_of(found: Sequence[ImageScores]) -> dict[str, Counts]:
    """Counts (N, F, 4) of images by the ending of their masks, see `VARIANTS`."""
    cells = np.stack([image.counts for image in found], axis=1)
    return dict(zip(VARIANTS, cells.astype(np.int64), strict=True))


def class_scores(cells: NDArray[np.int64], info: DatasetInfo) -> dict[str, float]:
    """Scores of each class, pooled and as means over images; NaN for a class that no image holds.

    Args:
        cells: (N, F, 4) counts of the images.
        info: of the dataset.
    """
    held, pooled, keys = counts.held_classes(cells), cells.sum(axis=0), class_keys(info.classes)
    found = {name: counts.SCORES[name](pooled) for name in ("dice", "iou", "recall")}
    found["dice_per_image"] = counts.mean_of_defined(counts.dice(cells).T)
    return {
        f"{name}_class_{keys[at]}": float(value) if there else np.nan
        for name, values in found.items()
        for at, value, there in zip(info.scheme.scored, values, held, strict=True)
    }


def pooled_confusion(found: Sequence[ImageScores], num_classes: int) -> NDArray[np.int64]:
    """Pixels of all images by true and predicted class: (C, C), see `counts.confusion`."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for image in found:
        truth, pred, pixels = image.confused.T
        matrix[truth, pred] += pixels
    return matrix


def summarise(
    table: pd.DataFrame, found: list[ImageScores], info: DatasetInfo, batch_size: int
) -> dict[str, float]:
    """Scores of a split: pooled, per class, and means over images.

    Args:
        table: of `image_table`.
        found: the scores in the table's order.
        info: of the dataset.
        batch_size: images that the soft dice pools.
    """
    cells, correct = counts_of(found)[""], np.stack([image.correct for image in found])
    summary = counts.summarise(cells, correct)
    if cells.shape[1] > 1:
        summary |= class_scores(cells, info)
    of_masks = {f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS}
    told = {
        f"{name}{ending}": f"{name}_per_image{ending}"
        for name in SUMMARY_METRICS
        for ending in VARIANTS
    }
    told |= {name: f"{name}_per_image" for name in MASK_METRICS}
    told |= {f"{name}_original": f"{name}_per_image_original" for name in DISTANCES}
    told |= {name: f"{name}_per_image" for name in found[0].row if name not in of_masks}
    for column, key in told.items():
        if column not in TRUTH_COLUMNS:
            summary.setdefault(key, float(table[column].mean()))
    soft = torch.from_numpy(np.stack([image.soft for image in found]))
    summary["dice_soft_batch"] = soft_dice_batch(soft, batch_size)
    return summary
