"""Validation counts every image once, whatever the batches it comes in."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segbench.arrays.batches import PlainBatches
from segbench.arrays.store import open_arrays
from segbench.training.validation import validate
from support.pipeline import one_process


class Brightness(nn.Module):
    """A network without weights: the brighter a pixel, the more it is foreground."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=1, keepdim=True) / 64 - 2


def test_the_loss_is_the_mean_over_images_not_over_batches(packed: Path) -> None:
    """The last batch is smaller; a loss that is a mean over pixels must not notice."""
    arrays = open_arrays(packed / "arrays" / "fold0" / "train")
    number = len(arrays.images)
    size = next(size for size in (4, 5, 7) if number % size)

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], masks.float())

    fabric = one_process()
    found, whole = (
        validate(fabric, Brightness(), loss, PlainBatches(arrays, many), 0.5, [1], 0)  # type: ignore[arg-type]
        for many in (size, number)
    )
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    assert found.scores == whole.scores
    assert torch.equal(found.preview, whole.preview)
    losses = [
        float(loss(Brightness()(images), masks)) for images, masks in PlainBatches(arrays, size)
    ]
    assert found.loss != pytest.approx(sum(losses) / len(losses), rel=1e-6), "nothing is tested"
