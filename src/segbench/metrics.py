"""Metrics: masks to counts to scores, pure functions.

Legend: N images, F foreground classes (all but class 0), H and W pixels. Ignored pixels (255) are
in no count. Where truth and prediction of a class are both empty, every score is NaN, which means
leave out and count; any other 0/0 (nothing predicted, or nothing there to find) is 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from segbench.samples import IGNORE

TP, FP, FN, TN = range(4)
COUNTS = ("tp", "fp", "fn", "tn")


def count(pred_mask: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Pixels of each foreground class that are true / false positives / negatives.

    Args:
        pred_mask: (N, H, W) integer class ids.
        mask: (N, H, W) integer class ids, 255 where ignored.
        num_classes: with the background.

    Returns:
        (N, F, 4) int64: TP, FP, FN, TN.

    Raises:
        ValueError: if the shapes differ.
    """
    if pred_mask.shape != mask.shape:
        raise ValueError(f"masks differ in shape: {tuple(pred_mask.shape)}, {tuple(mask.shape)}")
    counted = mask != IGNORE
    classes = []
    for class_id in range(1, num_classes):
        pred, truth = pred_mask == class_id, mask == class_id
        cells = (pred & truth, pred & ~truth, ~pred & truth, ~pred & ~truth)
        classes.append(torch.stack([(cell & counted).sum((1, 2)) for cell in cells], dim=1))
    return torch.stack(classes, dim=1)


def dice(counts: Tensor) -> Tensor:
    """2TP / (2TP + FP + FN) of counts (..., 4): (...) float64 in [0, 1] or NaN."""
    tp, fp, fn, _ = counts.double().unbind(-1)
    return _ratio(2 * tp, 2 * tp + fp + fn, counts)


def iou(counts: Tensor) -> Tensor:
    """TP / (TP + FP + FN) of counts (..., 4): (...) float64 in [0, 1] or NaN."""
    tp, fp, fn, _ = counts.double().unbind(-1)
    return _ratio(tp, tp + fp + fn, counts)


def precision(counts: Tensor) -> Tensor:
    """TP / (TP + FP) of counts (..., 4): (...) float64 in [0, 1] or NaN."""
    tp, fp, _, _ = counts.double().unbind(-1)
    return _ratio(tp, tp + fp, counts)


def recall(counts: Tensor) -> Tensor:
    """TP / (TP + FN) of counts (..., 4): (...) float64 in [0, 1] or NaN."""
    tp, _, fn, _ = counts.double().unbind(-1)
    return _ratio(tp, tp + fn, counts)


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "dice": dice,
    "iou": iou,
    "precision": precision,
    "recall": recall,
}


def _ratio(part: Tensor, whole: Tensor, counts: Tensor) -> Tensor:
    nothing_there = counts[..., [TP, FP, FN]].sum(-1) == 0
    score = torch.where(whole > 0, part / whole.clamp(min=1), 0.0)
    return torch.where(nothing_there, torch.nan, score)


def per_image(counts: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Score of each image, the mean over its foreground classes: (N, F, 4) to (N,), NaN if none."""
    return score(counts).nanmean(dim=1)


def summarise(counts: Tensor) -> dict[str, float]:
    """All scores of a set of images, micro and per image, and how many images had none.

    `<score>_micro` pools the pixels of all images before the ratio; `<score>_per_image` is the mean
    of the images' scores. Both are means over the foreground classes.
    """
    pooled = counts.sum(dim=0)
    summary = {f"{name}_micro": float(score(pooled).nanmean()) for name, score in SCORES.items()}
    for name, score in SCORES.items():
        summary[f"{name}_per_image"] = float(per_image(counts, score).nanmean())
    summary["images"] = counts.shape[0]
    summary["images_without_score"] = int(per_image(counts, dice).isnan().sum())
    return summary
