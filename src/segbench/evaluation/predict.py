"""Predictions of a network for the whole images of a split."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segbench.arrays.batches import PlainBatches
from segbench.arrays.store import Arrays
from segbench.arrays.tiling import StitchedImages
from segbench.datasets.canonical import read_info, read_samples, read_spacings
from segbench.images import Pixels, most_probable, read_pixels
from segbench.metrics.distances import PIXELS, Spacing
from segbench.metrics.on_device import soft_sums, to_planes, to_probs, to_probs_u8
from segbench.models.network import predict_classes

LOOK_EVERY = 32
"""Images between two looks at how much memory this process holds."""
GROWN = 1.05
"""Times what it held at first, from which freed memory goes back."""


@dataclass(frozen=True)
class Prediction:
    """A network's prediction for an image, and the ground truth.

    Attributes:
        id: of the image.
        probs_u8: (C, H, W), see `on_device.to_probs_u8`.
        pred_mask: (H, W) class ids from the default rule.
        mask: (H, W) class ids, 255 where ignored.
        soft: (F, 2), see `on_device.soft_sums`.
        original: reads the mask at the image's own size (H', W').
        spacing: of the pixels of that mask.
    """

    id: str
    probs_u8: Pixels
    pred_mask: Pixels
    mask: Pixels
    soft: NDArray[np.float32]
    original: Callable[[], Pixels]
    spacing: Spacing = PIXELS


class Truths:
    """Masks of a canonical dataset at their own size.

    Args:
        dataset: its folder.
    """

    def __init__(self, dataset: Path) -> None:
        self._spacing = Spacing(*(read_info(dataset).spacing or ()))
        self._spacings = read_spacings(dataset)
        samples = read_samples(dataset)
        self._paths = {
            id: dataset / mask for id, mask in zip(samples["id"], samples["mask"], strict=True)
        }

    def spacing(self, id: str) -> Spacing:
        """Of the pixels of a mask."""
        own = self._spacings.get(id)
        return Spacing(*own) if own else self._spacing

    def read(self, id: str) -> Pixels:
        """(H, W) class ids."""
        return np.array(read_pixels(self._paths[id]))  # torch wants a writable array


class _Heap:
    """Returns freed memory to the system, where its C library is glibc, once a process has grown.

    Rows of scores, which stay, lie between arrays that come and go, so that the heap would grow by
    an array for every image, though nothing holds it. Not more often than that: what the next
    forward pass takes must be fetched again, which would cost a small network 5 % of its time.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._first = 0

    def look(self) -> None:
        """Give back what is free if there is more than at the first look."""
        held = self._process.memory_info().rss
        self._first = self._first or held
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if held > GROWN * self._first and trim is not None:
            trim(0)


@torch.no_grad()
def predict(
    network: nn.Module,
    split: Arrays,
    truths: Truths,
    batch_size: int,
    threshold: float,
    class_ids: Sequence[int],
) -> Iterator[Prediction]:
    """Predict each whole image of a split, in order.

    Args:
        network: (N, C, H, W) uint8 to logits, in eval mode, channels last.
        split: images, or the windows of tiled ones.
        truths: masks at their original size.
        batch_size: of images or windows.
        threshold: of the default rule.
        class_ids: F classes that are scored.
    """
    device = next(network.parameters()).device
    stitched = StitchedImages(split)
    ids, heap = enumerate(map(str, stitched.samples["id"])), _Heap()
    for logits, truth in _stitched_logits(network, split, stitched, batch_size, device):
        rest = truth
        for probs, probs_u8s, pred_masks in probabilities(logits, threshold):
            own_truth, rest = rest[: len(probs)], rest[len(probs) :]
            soft = soft_sums(probs, own_truth, class_ids)
            parts = (part.cpu().numpy() for part in (own_truth, soft))
            for probs_u8, pred, mask, sums in zip(probs_u8s, pred_masks, *parts, strict=True):
                done, id = next(ids)
                if done % LOOK_EVERY == LOOK_EVERY - 1:
                    heap.look()
                read, spacing = partial(truths.read, id), truths.spacing(id)
                yield Prediction(id, probs_u8, pred, mask, sums, read, spacing)


def probabilities(logits: Tensor, threshold: float) -> Iterator[tuple[Tensor, Pixels, Pixels]]:
    """What logits (N, C, H, W) of images say, a few images at a time, in order.

    Args:
        logits: on any device.
        threshold: minimum foreground probability, where C is 1.

    Yields:
        Of n images: probabilities (n, C, H, W) on the device, see `on_device.to_probs`; the same as
        bytes on the CPU, see `on_device.to_probs_u8`; and class ids (n, H, W).
    """
    # Several classes are faster one image after another, which a core's cache holds.
    one_by_one = logits.shape[1] > 1 and logits.device.type == "cpu"
    for own in torch.split(logits, 1 if one_by_one else len(logits)):
        planes = to_planes(own)
        probs = to_probs(planes)
        if one_by_one:
            pred_masks = most_probable(planes[0].numpy())[None]
        else:
            pred_masks = predict_classes(own, threshold).cpu().numpy()
        yield probs, to_probs_u8(probs).cpu().numpy(), pred_masks


def _stitched_logits(
    network: nn.Module,
    split: Arrays,
    stitched: StitchedImages,
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (N, C, H, W) and masks (N, H, W) of whole images, a few at a time.

    On the device, or on the CPU where windows are stitched.
    """
    batches = PlainBatches(split, batch_size)
    if not stitched.is_tiled:
        for images, masks in batches:
            yield network(images.to(device)), masks.to(device)
        return
    windows = (network(images.to(device)).float().cpu().numpy() for images, _ in batches)
    for logits, mask in stitched.blend(windows):
        yield torch.from_numpy(logits)[None], torch.from_numpy(mask)[None]
