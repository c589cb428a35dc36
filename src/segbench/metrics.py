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


def count_correct(pred_mask: Tensor, mask: Tensor) -> Tensor:
    """Pixels of any class that are right, and pixels that count.

    Args:
        pred_mask: (N, H, W) integer class ids.
        mask: (N, H, W) integer class ids, 255 where ignored.

    Returns:
        (N, 2) int64.
    """
    counted = mask != IGNORE
    return torch.stack([((pred_mask == mask) & counted).sum((1, 2)), counted.sum((1, 2))], dim=1)


def accuracy(correct: Tensor) -> Tensor:
    """Share of pixels that are right, of (..., 2): (...) float64 in [0, 1], NaN without pixels."""
    right, counted = correct.double().unbind(-1)
    return right / counted


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


def soft_sums(logits: Tensor, mask: Tensor) -> Tensor:
    """What the soft dice is made of, of each image and foreground class.

    Args:
        logits: (N, C, H, W), C as in `predict_classes`.
        mask: (N, H, W) integer class ids, 255 where ignored.

    Returns:
        (N, F, 2): sum of probabilities within the truth, sum of probabilities and truth.
    """
    if logits.shape[1] == 1:
        probs = logits.float().sigmoid()
    else:
        probs = logits.float().softmax(dim=1)[:, 1:]
    ids = torch.arange(1, probs.shape[1] + 1, device=mask.device).view(1, -1, 1, 1)
    truth = mask[:, None] == ids
    probs = probs * (mask != IGNORE)[:, None]
    both = probs.sum((2, 3)) + truth.sum((2, 3))
    return torch.stack([(probs * truth).sum((2, 3)), both], dim=-1)


def soft_dice_batch(sums: Tensor, batch_size: int) -> float:
    """Soft dice as a loss sees it: of the pixels of a batch together, the mean over batches.

    It depends on the batch size and on the order of the images; it stands here to be set beside
    published numbers that were measured so.

    Args:
        sums: (N, F, 2) of `soft_sums`.
        batch_size: of consecutive images.
    """
    pooled = torch.stack([part.sum(dim=0) for part in torch.split(sums.double(), batch_size)])
    within, both = pooled.unbind(-1)
    return float((2 * within / both).nanmean())


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


def summarise(counts: Tensor, correct: Tensor) -> dict[str, float]:
    """All scores of a set of images, micro and per image, and how many images had none.

    `<score>_micro` pools the pixels of all images before the ratio; `<score>_per_image` is the mean
    of the images' scores. Both are means over the foreground classes, but accuracy, which is of all
    pixels.
    """
    pooled = counts.sum(dim=0)
    summary = {f"{name}_micro": float(score(pooled).nanmean()) for name, score in SCORES.items()}
    for name, score in SCORES.items():
        summary[f"{name}_per_image"] = float(per_image(counts, score).nanmean())
    summary["accuracy_micro"] = float(accuracy(correct.sum(dim=0)))
    summary["accuracy_per_image"] = float(accuracy(correct).nanmean())
    summary["images"] = counts.shape[0]
    summary["images_without_score"] = int(per_image(counts, dice).isnan().sum())
    return summary
