"""The rule that masks are made by, chosen on validation; the test set only sees what came of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from segbench.deciding import Rule, clean, decide
from segbench.images import IGNORE
from segbench.metrics import counts
from segbench.metrics.probabilities import LEVELS, Histogram, counts_at, histogram
from segbench.params.evaluate import Choose
from segbench.scoring import Seen

Choice = tuple[float, Rule]
"""Mean dice per image on validation, and the rule that reached it."""


def choose(plain: Rule, asked: Choose, seen_by: Mapping[bool, Sequence[Seen]]) -> list[Choice]:
    """Try rules, and put the best first.

    First the threshold, by each image's counts at all 256 of them; then, at that threshold, what is
    cleaned up; all of it for each way of looking at an image.

    Args:
        plain: what holds where nothing else is better.
        asked: what is tried.
        seen_by: the validation images as a network sees them without and with mirror images, as far
            as that is tried.

    Returns:
        All that was tried, best first; among equals what interferes least, and the threshold that
        is nearest to the plain one.
    """
    if not any(((image.mask > 0) & (image.mask != IGNORE)).any() for image in seen_by[plain.flips]):
        return [(np.nan, plain)]  # nothing to choose by
    tried: list[Choice] = []
    for flips, seen in seen_by.items():
        start = replace(plain, flips=flips)
        tried.append((_dice_of(seen, start), start))
        if asked.threshold and len(seen[0].levels) == 1:
            best = best_threshold(_histograms(seen), plain.threshold)
            start = replace(start, threshold=best)
            tried.append((_dice_of(seen, start), start))
        for largest in (False, True) if asked.largest else (False,):
            for min_size in (0, *asked.min_sizes):
                rule = replace(start, largest=largest, min_size=min_size)
                if rule.cleans:
                    tried.append((_dice_of(seen, rule), rule))
    # Sorting is stable: what was tried first, and interferes less, stays ahead of its equals.
    return sorted(tried, key=lambda choice: -choice[0])


def best_threshold(histograms: Histogram, plain: float) -> float:
    """The threshold with the highest mean dice per image; the nearest to `plain` of equals.

    Args:
        histograms: (N, 1, 2, 256).
        plain: a probability.
    """
    scores = counts.dice(counts_at(histograms)[:, 0])
    means = _seen_to_be_empty(scores).mean(axis=0)
    best = np.flatnonzero(means >= means.max() - 1e-12) / LEVELS
    return float(best[np.abs(best - plain).argmin()])


def _histograms(seen: Iterable[Seen]) -> Histogram:
    return np.stack([histogram(image.levels, image.mask) for image in seen])


def _dice_of(seen: Sequence[Seen], rule: Rule) -> float:
    scores: list[float] = []
    for image in seen:
        one = len(image.levels) == 1
        pred = decide(image.levels, rule.threshold) if one else image.pred_mask
        num_classes = max(2, len(image.levels))
        cells, _ = counts.count_image(clean(pred, rule, 1.0), image.mask, num_classes)
        scores.append(float(counts.per_image(cells, counts.dice)))
    return float(_seen_to_be_empty(np.array(scores)).mean())


def _seen_to_be_empty(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in which an empty image that is seen to be empty counts as right.

    Rules are compared on the same images; left out, it would pay to find something there.
    """
    return np.where(np.isnan(scores), 1.0, scores)
