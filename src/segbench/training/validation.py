"""Validation: loss and scores of a split, by all processes together."""

from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from segbench.arrays.batches import PlainBatches
from segbench.metrics.counts import summarise
from segbench.metrics.on_device import count, count_correct
from segbench.models.network import predict_classes
from segbench.training.distributed import rows_of_all


@dataclass(frozen=True)
class Validated:
    """What a network is worth on a split.

    Attributes:
        loss: mean over images of their batches' losses.
        scores: of `metrics.counts.summarise`.
        shown: class ids (H, W) that it gives one of the samples.
    """

    loss: float
    scores: dict[str, float]
    shown: Tensor


@dataclass(frozen=True)
class _Batch:
    number: int
    size: int
    loss: Tensor
    counts: Tensor
    correct: Tensor
    shown: Tensor | None


@torch.no_grad()
def validate(
    fabric: Fabric,
    network: nn.Module,
    loss: nn.Module,
    batches: PlainBatches,
    threshold: float,
    num_classes: int,
    shown: int,
    pieces: int = 1,
) -> Validated:
    """Score a network. Whole batches are dealt out to the processes, so each sample counts once.

    Args:
        fabric: launched.
        network: (N, C, H, W) to logits; is put into eval mode.
        loss: of logits and masks.
        batches: of the split.
        threshold: probability from which a pixel is foreground.
        num_classes: with the background.
        shown: number of the sample to show.
        pieces: how many a batch is cut into, to fit into memory.
    """
    network.eval()
    rows: list[_Batch] = []
    for number, batch in batches.part(fabric.global_rank, fabric.world_size):
        images, masks = fabric.to_device(batch)
        with fabric.autocast():
            logits = torch.cat([network(piece) for piece in images.chunk(pieces)])
        pred = predict_classes(logits, threshold)
        at = shown - number * batches.batch_size
        rows.append(
            _Batch(
                number,
                len(images),
                loss(logits, masks),
                count(pred, masks, num_classes),
                count_correct(pred, masks),
                pred[at].cpu() if 0 <= at < len(images) else None,
            )
        )
    # Not before: on a GPU it would wait for each batch.
    moved = [
        _Batch(row.number, row.size, row.loss.cpu(), row.counts.cpu(), row.correct.cpu(), row.shown)
        for row in rows
    ]
    if fabric.world_size > 1:
        moved = sorted(rows_of_all(moved), key=lambda row: row.number)
    sizes = torch.tensor([row.size for row in moved], dtype=torch.float64)
    losses = torch.stack([row.loss for row in moved]).double()
    (picture,) = [row.shown for row in moved if row.shown is not None]
    return Validated(
        float((losses * sizes).sum() / sizes.sum()),
        summarise(
            torch.cat([row.counts for row in moved]).numpy(),
            torch.cat([row.correct for row in moved]).numpy(),
        ),
        picture,
    )
