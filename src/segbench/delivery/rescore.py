"""A delivered model is scored anew on the test images, by each runtime that is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from segbench.arrays.batches import PlainBatches
from segbench.arrays.store import Arrays
from segbench.arrays.tiling import StitchedImages
from segbench.evaluation.drafts import Draft
from segbench.evaluation.inference import time_interleaved
from segbench.evaluation.per_image import absent_classes
from segbench.evaluation.postprocessing import mask_by
from segbench.evaluation.predict import Truths, predict
from segbench.evaluation.results import Predictions
from segbench.exports.masks import MaskRule
from segbench.exports.runtimes import Runtime
from segbench.images import decode_mask, encode_mask
from segbench.labels import LabelScheme
from segbench.metrics import counts
from segbench.params.evaluate import Evaluate
from segbench.progress import with_progress


@dataclass(frozen=True)
class Rescored:
    """What a model says of the N test images.

    Attributes:
        dice: mean per image, of masks by the chosen rule at the network's size.
        masks: (N,) these masks, as PNG.
        differ: pixels of masks by the default rule that are not those of evaluation's; None where
            evaluation kept none of the same network.
        pixels: of all images.
    """

    dice: float
    masks: list[bytes]
    differ: int | None
    pixels: int

    def pixels_unlike(self, other: "Rescored") -> int:
        """How many pixels are of another class."""
        pairs = zip(self.masks, other.masks, strict=True)
        return sum(int((decode_mask(a) != decode_mask(b)).sum()) for a, b in pairs)


@dataclass(frozen=True)
class Row:
    """What a runtime says of the test images.

    Attributes:
        runtime, version, file: which it is, and what it read.
        dice: mean per image, of masks by the chosen rule at the network's size.
        difference: of that to what evaluation recorded.
        pixels_differ: how many pixels are of another class than evaluation's.
        share_differs: which share of all that is.
        latency_ms: of a single image.
        images_per_second: in batches of evaluate.batch_size.
    """

    runtime: str
    version: str
    file: str
    dice: float
    difference: float
    pixels_differ: int
    share_differs: float
    latency_ms: float
    images_per_second: float


class AsNetwork(nn.Module):
    """A runtime in place of a network."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.runtime = runtime
        self.on_the_cpu = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (N, C, H, W)."""
        return torch.from_numpy(self.runtime(images.numpy()))


def rescore(
    name: str,
    network: nn.Module,
    split: Arrays,
    truths: Truths,
    params: Evaluate,
    rule: MaskRule,
    scheme: LabelScheme,
    former: Predictions | None,
) -> Rescored:
    """Score the test images as evaluation does.

    Args:
        name: that is shown with the progress.
        network: (N, C, H, W) uint8 to logits.
        split: packed test images.
        truths: their masks at their own size.
        params: the section `evaluate`.
        rule: that was chosen on validation.
        scheme: of the classes.
        former: evaluation's masks by the default rule.
    """
    absent = absent_classes(StitchedImages(split).masks(), scheme)
    held = [at for at, id in enumerate(scheme.scored) if id not in absent]
    found = predict(network, split, truths, params.batch_size, params.threshold, scheme.scored)
    scores, masks, differ, pixels = [], [], 0, 0
    for one in with_progress(found, f"score {name}", len(StitchedImages(split)), "images"):
        mask = mask_by(rule, Draft.of(one, *one.mask.shape), scheme.background)
        cells, _ = counts.count_image(mask, one.mask, scheme.scored)
        scores.append(float(counts.mean_of_defined(counts.dice(cells[held]))))
        masks.append(encode_mask(mask))
        pixels += mask.size
        if former is not None:
            differ += int((former.read("test", one.id) != one.pred_mask).sum())
    dice = float(np.nanmean(scores)) if np.isfinite(scores).any() else np.nan
    return Rescored(dice, masks, differ if former is not None else None, pixels)


def time_runtimes(
    runtimes: Mapping[str, Runtime], split: Arrays, batch_size: int
) -> dict[str, tuple[float, float]]:
    """Milliseconds for a single image, and images per second in batches, by runtime.

    All are timed in turns, so that a slow minute affects all of them equally.

    Args:
        runtimes: by name.
        split: packed images, of which the first are taken.
        batch_size: of the batches.
    """
    batch = next(iter(PlainBatches(split, batch_size)))[0].numpy()
    works = {
        (name, size): partial(run, np.ascontiguousarray(batch[:size]))
        for name, run in runtimes.items()
        for size in dict.fromkeys((1, len(batch)))
    }
    seconds = {key: float(np.median(each)) for key, each in time_interleaved(works, "cpu").items()}
    return {
        name: (1000 * seconds[name, 1], len(batch) / seconds[name, len(batch)]) for name in runtimes
    }
