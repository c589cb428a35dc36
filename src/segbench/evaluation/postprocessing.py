"""Post-processing: probabilities to masks, and selection of the best rule on validation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segbench.evaluation.drafts import Draft, Drafts
from segbench.exports.masks import MaskRule as MaskRule
from segbench.exports.masks import binarise, enlarge, remove_components
from segbench.images import LEVELS, Pixels
from segbench.metrics import counts
from segbench.metrics.probabilities import Histogram, counts_at
from segbench.parallel import thread_map
from segbench.params.evaluate import Choose

Floats = NDArray[np.floating]


def mask_by(rule: MaskRule, draft: Draft, background: int | None) -> Pixels:
    """Class ids (H, W) of an image at the network's size."""
    pred = draft.pred_mask
    if draft.probs_u8 is not None:
        pred = binarise(draft.probs_u8[0], rule.threshold)
    return remove_components(pred, rule, 1.0, background)


def large_mask_by(
    rule: MaskRule, draft: Draft, size: tuple[int, int], background: int | None
) -> Pixels:
    """Class ids of an image at its own size (height, width), which is not the network's.

    Args:
        rule: how masks are made.
        draft: what they are made of.
        size: the image's own.
        background: its class id, see `remove_components`.
    """
    if draft.probs_u8 is not None:
        pred = binarise(enlarge(draft.probs_u8[0], *size), rule.threshold)
    else:
        assert draft.enlarged is not None
        pred = draft.enlarged
    return remove_components(pred, rule, pred.size / draft.pred_mask.size, background)


def own_mask_by(
    rule: MaskRule, draft: Draft, size: tuple[int, int], background: int | None
) -> Pixels:
    """Class ids of an image at its own size (height, width), whatever the network's is."""
    if size == draft.pred_mask.shape:
        return mask_by(rule, draft, background)
    return large_mask_by(rule, draft, size, background)


Choice = tuple[float, MaskRule]
"""Mean dice per image on validation, and the rule that reached it."""


@dataclass(frozen=True)
class Validated:
    """What a network says of the N validation images.

    Attributes:
        drafts: (N,) what masks are made of.
        histograms: (N,) of (1, 2, 256), see `probabilities.histogram`, for one class against the
            background; none for several.
    """

    drafts: Drafts
    histograms: Sequence[Histogram]


def select_rule(
    default: MaskRule,
    options: Choose,
    validated: Mapping[bool, Validated],
    masks: Callable[[int], Pixels],
    held: Sequence[int],
    background: int | None,
) -> list[Choice]:
    """Try mask rules on validation images, best first.

    First the threshold, from each image's counts at all 256; then, at that threshold, which
    components to remove; both with and without mirror images if `options` asks for that.

    Args:
        default: the rule to keep unless another is better.
        options: what to try.
        validated: keyed by whether logits are averaged over flips.
        masks: reads the ground truth (H, W) of an image by its index.
        held: scored classes of which any image has pixels.
        background: class id of what removed components become; None: there is none.

    Returns:
        All rules tried, best first. Ties go to the rule that changes least, and to the threshold
        nearest to the default. Only the default, with NaN, if no image has foreground.
    """
    if not held:
        return [(np.nan, default)]  # nothing to select by
    tried: list[Choice] = []
    for flips, found in validated.items():
        start = replace(default, flips=flips)
        rules = [start]
        if options.threshold and found.histograms:
            start = replace(start, threshold=best_threshold(found.histograms, default.threshold))
            rules.append(start)
        for largest in (False, True) if options.largest else (False,):
            for min_size in (0, *options.min_sizes):
                rule = replace(start, largest=largest, min_size=min_size)
                if rule.removes_components:
                    rules.append(rule)

        def score(index: int, rules: list[MaskRule] = rules, found: Validated = found) -> Floats:
            draft, mask = found.drafts[index], masks(index)
            cells = [
                counts.count_image(mask_by(rule, draft, background), mask, held)[0]
                for rule in rules
            ]
            return counts.per_image(np.stack(cells), counts.dice)

        total = len(found.drafts)
        dice = np.stack([*thread_map(score, range(total), "choose a mask rule", total)])
        means = [float(_with_empty_as_right(own).mean()) for own in dice.T.copy()]
        tried += zip(means, rules, strict=True)
    # Sorting is stable: among ties, rules tried earlier, which change less, stay first.
    return sorted(tried, key=lambda choice: -choice[0])


def best_threshold(histograms: Iterable[Histogram], default: float) -> float:
    """The threshold with the highest mean dice per image; among ties, the nearest to the default.

    Args:
        histograms: (N,) of (1, 2, 256).
        default: a probability.
    """
    scores = np.stack([counts.dice(counts_at(one))[0] for one in histograms])
    means = _with_empty_as_right(scores).mean(axis=0)
    best = np.flatnonzero(means >= means.max() - 1e-12) / LEVELS
    return float(best[np.abs(best - default).argmin()])


def _with_empty_as_right(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in which an empty image that is predicted empty counts as 1.

    Rules must be compared on the same images: left out instead, such images would make a false
    positive cheaper than an empty prediction.
    """
    return np.where(np.isnan(scores), 1.0, scores)
