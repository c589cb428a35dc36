"""Scores of single images: a row of a table for each, and what sets of rows come to."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.evaluation.postprocessing import Rule, clean, decide, enlarge
from segbench.evaluation.predict import Seen
from segbench.images import IGNORE, Pixels
from segbench.metrics import boundary, counts
from segbench.metrics.catalogue import MASK_METRICS, OPTIONAL_METRICS, TRUTH_COLUMNS, VARIANTS
from segbench.metrics.definition import Evidence
from segbench.metrics.probabilities import Histogram, average_precision, histogram


@dataclass(frozen=True)
class Scored:
    """Scores of an image.

    Attributes:
        row: by column; without what names the image.
        pred_mask: (H, W) class ids, by the plain rule.
        counts: (F, 4) of the plain mask, see `counts.count`.
        correct: (2,), see `counts.count_correct`.
        histogram: (F, 2, 256), see `probabilities.histogram`.
        soft: (F, 2), see `probabilities.soft_sums`.
    """

    row: dict[str, float]
    pred_mask: Pixels
    counts: NDArray[np.int64]
    correct: NDArray[np.int64]
    histogram: Histogram
    soft: NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """Scores images, each on its own.

    Attributes:
        num_classes: with the background.
        tolerance: of the surface dice, in pixels.
        plain, chosen: rules that masks are made by.
        extra: names in `OPTIONAL_METRICS`.
    """

    num_classes: int
    tolerance: float
    plain: Rule
    chosen: Rule
    extra: Sequence[str]

    def score(self, plain: Seen, chosen: Seen) -> Scored:
        """Score an image as it is seen by the plain rule's network and by the chosen one's."""
        ways, preds = [(plain, self.plain)], [plain.pred_mask]
        if self.chosen != self.plain:
            ways.append((chosen, self.chosen))
            # Of several classes the largest is taken, whatever the threshold.
            several = self.num_classes > 2
            pred = chosen.pred_mask if several else decide(chosen.levels, self.chosen.threshold)
            preds.append(clean(pred, self.chosen, 1.0))
        at_network = at_original = self._of_masks(preds, plain.mask)
        truth = plain.original()
        if truth.shape != plain.mask.shape:
            scale = truth.size / plain.mask.size
            large = [
                clean(decide(enlarge(seen.levels, *truth.shape), rule.threshold), rule, scale)
                for seen, rule in ways
            ]
            at_original = self._of_masks(large, truth)
        found = (at_network[0], at_network[-1], at_original[0], at_original[-1])
        own = histogram(plain.levels, plain.mask)
        row = _of_truth(plain.mask)
        for ending, scores in zip(VARIANTS, found, strict=True):
            row |= {f"{name}{ending}": value for name, value in scores.items()}
        row["average_precision"] = float(counts.mean_of_defined(average_precision(own)))
        evidence = Evidence(plain.pred_mask, plain.mask, own)
        for name in self.extra:
            row |= OPTIONAL_METRICS[name](evidence)
        cells, correct = counts.count_image(plain.pred_mask, plain.mask, self.num_classes)
        return Scored(row, plain.pred_mask, cells, correct, own, plain.soft)

    def _of_masks(self, preds: list[Pixels], mask: Pixels) -> list[dict[str, float]]:
        """All metrics of masks (H, W) of one image."""
        outlines = boundary.boundary_scores(preds, mask, self.num_classes, self.tolerance)
        found = []
        for pred, of_outline in zip(preds, outlines.tolist(), strict=True):
            cells, correct = counts.count_image(pred, mask, self.num_classes)
            scores = counts.mean_of_defined(
                np.stack([score(cells) for score in counts.SCORES.values()])
            )
            values = (*scores.tolist(), float(counts.accuracy(correct)), *of_outline)
            found.append(dict(zip(MASK_METRICS, values, strict=True)))
        return found


def _of_truth(mask: Pixels) -> dict[str, float]:
    there = ((mask > 0) & (mask != IGNORE)).view(np.uint8)
    components, _ = cv2.connectedComponents(there, connectivity=8)
    return dict(zip(TRUTH_COLUMNS, (float(there.mean()), components - 1), strict=True))
