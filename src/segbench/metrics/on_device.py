"""Counts, probabilities and soft sums of a batch, computed on its device."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.images import IGNORE, Pixels, histogram
from segbench.metrics.probabilities import LEVELS


def count(pred_mask: Tensor, mask: Tensor, class_ids: Sequence[int]) -> Tensor:
    """Count true and false positives and negatives of each of some classes.

    Args:
        pred_mask: (N, H, W) integer class ids.
        mask: (N, H, W) integer class ids, 255 where ignored.
        class_ids: F of them.

    Returns:
        (N, F, 4) int64: TP, FP, FN, TN.

    Raises:
        ValueError: if the shapes differ.
    """
    if pred_mask.shape != mask.shape:
        raise ValueError(f"masks differ in shape: {tuple(pred_mask.shape)}, {tuple(mask.shape)}")
    counted = mask != IGNORE
    classes = []
    for class_id in class_ids:
        pred, truth = pred_mask == class_id, mask == class_id
        cells = (pred & truth, pred & ~truth, ~pred & truth, ~pred & ~truth)
        classes.append(torch.stack([(cell & counted).sum((1, 2)) for cell in cells], dim=1))
    return torch.stack(classes, dim=1)


def count_correct(pred_mask: Tensor, mask: Tensor) -> Tensor:
    """Count correct pixels of any class, and pixels that are not ignored.

    Args:
        pred_mask: (N, H, W) integer class ids.
        mask: (N, H, W) integer class ids, 255 where ignored.

    Returns:
        (N, 2) int64.
    """
    counted = mask != IGNORE
    return torch.stack([((pred_mask == mask) & counted).sum((1, 2)), counted.sum((1, 2))], dim=1)


def to_planes(logits: Tensor) -> Tensor:
    """Logits (N, C, H, W) as float32, each plane (H, W) contiguous."""
    logits = logits.float()
    if logits.is_contiguous() or len(logits) > 1:
        return logits.contiguous()
    # torch copies a transposed matrix by blocks, in a third of the time.
    pixels = logits[0].permute(1, 2, 0).flatten(0, 1)
    return pixels.t().contiguous().view(logits.shape)


def to_probs(logits: Tensor) -> Tensor:
    """Probabilities of logits (N, C, H, W) as float32 of the same shape.

    C is 1 for one class against the background, else the number of classes.
    """
    return logits.float().sigmoid() if logits.shape[1] == 1 else logits.float().softmax(dim=1)


def to_probs_u8(probs: Tensor) -> Tensor:
    """Probabilities as bytes of the same shape: floor(256 p), at most 255."""
    return (probs * LEVELS).clamp_(max=LEVELS - 1).to(torch.uint8)


def soft_sums(probs: Tensor, mask: Tensor, class_ids: Sequence[int]) -> Tensor:
    """The sums that make up the soft dice of each image and class.

    Args:
        probs: (N, C, H, W), see `to_probs`.
        mask: (N, H, W) integer class ids, 255 where ignored.
        class_ids: F classes that are scored; the one that the logit is of, where C is 1.

    Returns:
        (N, F, 2): sum of probabilities within the truth, sum of probabilities and truth.
    """
    if probs.device.type == "cpu":
        own = zip(probs.numpy(), mask.to(torch.uint8).numpy(), strict=True)
        return torch.from_numpy(np.stack([_soft_sums_of_image(*one, class_ids) for one in own]))
    if probs.shape[1] > 1:
        probs = probs[:, list(class_ids)]
    ids = torch.tensor(class_ids, device=mask.device).view(1, -1, 1, 1)
    truth = mask[:, None] == ids
    probs = probs * (mask != IGNORE)[:, None]
    both = probs.sum((2, 3)) + truth.sum((2, 3))
    return torch.stack([(probs * truth).sum((2, 3)), both], dim=-1)


def _soft_sums_of_image(
    probs: NDArray[np.float32], mask: Pixels, class_ids: Sequence[int]
) -> NDArray[np.float32]:
    """(F, 2) of probabilities (C, H, W). Of several classes each pixel is in one truth only, so
    that a pass over the image finds the sums within all of them."""
    counted = mask != IGNORE
    if len(probs) == 1:
        plane, truth = probs[0], mask == class_ids[0]
        of_all = plane.sum() if counted.all() else plane[counted].sum()
        both = of_all + np.count_nonzero(truth)
        return np.array([[plane[truth].sum(), both]], np.float32)
    at = np.where(counted, mask, 0).astype(np.intp)[None]
    of_truth = np.take_along_axis(probs, at, axis=0)[0]
    within = np.bincount(mask.ravel(), of_truth.ravel(), 256)
    if counted.all():
        of_all = probs.sum(axis=(1, 2))
    else:
        of_all = np.array([probs[class_id][counted].sum() for class_id in range(len(probs))])
    own = list(class_ids)
    both = of_all[own] + histogram(mask)[own]
    return np.stack([within[own], both], axis=-1).astype(np.float32)


def soft_dice_batch(sums: Tensor, batch_size: int) -> float:
    """Soft dice as in a loss: pooled over the pixels of a batch, then averaged over batches.

    It depends on batch size and order of the images; it is here only for comparison with published
    numbers that were measured this way.

    Args:
        sums: (N, F, 2) of `soft_sums`.
        batch_size: of consecutive images.
    """
    pooled = torch.stack([part.sum(dim=0) for part in torch.split(sums.double(), batch_size)])
    within, both = pooled.unbind(-1)
    return float((2 * within / both).nanmean())
