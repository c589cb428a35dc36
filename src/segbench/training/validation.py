"""Validation: loss and scores of a network on a split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from segbench.arrays.batches import PlainBatches
from segbench.metrics.counts import summarise
from segbench.metrics.on_device import count, count_correct
from segbench.models.network import predict_classes
from segbench.training.distributed import gather_objects


@dataclass(frozen=True)
class Validation:
    """Loss and scores of a network on a split.

    Attributes:
        loss: batch losses, weighted by the number of images that have a pixel which counts.
        scores: from `metrics.counts.summarise`.
        preview: class ids (H, W) predicted for the preview sample.
    """

    loss: float
    scores: dict[str, float]
    preview: Tensor


@dataclass(frozen=True)
class _Batch:
    """Results of a batch, and the preview if its sample is in the batch."""

    number: int
    loss: Tensor
    counts: Tensor
    correct: Tensor
    preview: Tensor | None


@torch.no_grad()
def validate(
    fabric: Fabric,
    network: nn.Module,
    loss: nn.Module,
    batches: PlainBatches,
    threshold: float,
    class_ids: Sequence[int],
    preview_index: int,
    after_batch: Callable[[], None] = lambda: None,
) -> Validation:
    """Validate a network on all processes together.

    Whole batches are distributed to the processes, so that each sample counts once.

    Args:
        fabric: launched.
        network: (N, C, H, W) to logits; put into eval mode.
        loss: of logits and masks.
        batches: of the split.
        threshold: minimum foreground probability.
        class_ids: of the classes that are scored.
        preview_index: index of the sample whose prediction is returned.
        after_batch: is called after each.
    """
    network.eval()
    rows: list[_Batch] = []
    for number, batch in batches.share(fabric.global_rank, fabric.world_size):
        images, masks = fabric.to_device(batch)
        with fabric.autocast():
            logits = network(images)
        pred = predict_classes(logits, threshold)
        at = preview_index - number * batches.batch_size
        rows.append(
            _Batch(
                number,
                loss(logits, masks),
                count(pred, masks, class_ids),
                count_correct(pred, masks),
                pred[at].cpu() if 0 <= at < len(images) else None,
            )
        )
        after_batch()
    # Copy only after the last batch was launched: on a GPU each copy waits for its batch.
    rows = [
        replace(row, loss=row.loss.cpu(), counts=row.counts.cpu(), correct=row.correct.cpu())
        for row in rows
    ]
    if fabric.world_size > 1:
        rows = sorted(gather_objects(rows), key=lambda row: row.number)
    return _pool(rows)


def _pool(rows: list[_Batch]) -> Validation:
    """Loss and scores of all batches together, each image counted once."""
    counted = [int((row.correct[:, 1] > 0).sum()) for row in rows]
    sizes = torch.tensor(counted, dtype=torch.float64)
    losses = torch.stack([row.loss for row in rows]).double()
    (preview,) = [row.preview for row in rows if row.preview is not None]
    return Validation(
        float((losses * sizes).sum() / sizes.sum()),
        summarise(
            torch.cat([row.counts for row in rows]).numpy(),
            torch.cat([row.correct for row in rows]).numpy(),
        ),
        preview,
    )
