"""What is counted in one pass over an image of many classes is what each class alone gives."""

import math

import numpy as np
import pytest
import torch

from segbench.images import IGNORE, histogram, joint_histogram, most_probable
from segbench.metrics import distances
from segbench.metrics.counts import count_image
from segbench.metrics.distances import Nearest, Spacing
from segbench.metrics.on_device import soft_sums, to_planes, to_probs

CLASSES = 21


def noise(*size: int, ignored: float = 0.1) -> np.ndarray:
    """Class ids, some of them in no pixel, some pixels ignored."""
    rng = np.random.default_rng(sum(size))
    mask = rng.integers(0, CLASSES - 3, size, np.uint8)
    mask[rng.random(size) < ignored] = IGNORE
    return mask


@pytest.mark.parametrize("class_ids", [[1], [2, 5], [*range(1, CLASSES)], [*range(CLASSES)]])
@pytest.mark.parametrize("ignored", [0.0, 0.1, 1.0])
def test_pixels_are_counted_as_class_by_class(class_ids: list[int], ignored: float) -> None:
    pred, mask = noise(31, 40, ignored=0), noise(40, 31, ignored=ignored).T
    cells, correct = count_image(pred, mask, class_ids)
    there = mask != IGNORE
    for class_id, row in zip(class_ids, cells.tolist(), strict=True):
        own, truth = (pred == class_id) & there, mask == class_id
        pairs = ((own, truth), (own, ~truth), (~own, truth), (~own, ~truth))
        assert row == [int((one & other & there).sum()) for one, other in pairs]
    assert correct.tolist() == [int(((pred == mask) & there).sum()), int(there.sum())]


def test_pixels_are_counted_exactly_where_a_float_does_not_suffice() -> None:
    values = np.ones((3, 2**23 + 1), np.uint8)
    values[:, 0] = 7
    found = histogram(values)
    assert (found[1], found[7], found.sum()) == (3 * 2**23, 3, values.size)
    assert histogram(values[:, ::-1], values == 7).nonzero()[0].tolist() == [1]
    joint = joint_histogram(values, values[:, ::-1], 7)
    assert joint.sum() == joint[1, 1] == 3 * (2**23 - 1)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_most_probable_class_is_the_first_of_equals(channels_last: bool) -> None:
    torch.manual_seed(0)
    logits = torch.randint(-3, 4, (1, CLASSES, 30, 41)).float()
    if channels_last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    planes = to_planes(logits)
    assert planes.is_contiguous()
    assert torch.equal(planes, logits)
    expected = logits.numpy()[0].argmax(axis=0)
    assert (most_probable(planes[0].numpy()) == expected).all()


@pytest.mark.parametrize("ignored", [0.0, 0.2])
def test_soft_sums_are_those_of_each_class(ignored: float) -> None:
    torch.manual_seed(0)
    probs = to_probs(torch.randn(3, CLASSES, 20, 30))
    mask = torch.from_numpy(noise(3, 20, 30, ignored=ignored))
    found = soft_sums(probs, mask, [0, *range(2, CLASSES)])
    assert found.dtype == torch.float32
    there = mask != IGNORE
    for at, class_id in enumerate([0, *range(2, CLASSES)]):
        own, truth = probs[:, class_id].double() * there, (mask == class_id).double()
        within, both = (own * truth).sum((1, 2)), (own + truth).sum((1, 2))
        torch.testing.assert_close(found[:, at].double(), torch.stack([within, both], 1))


@pytest.mark.parametrize("step", [1.0, 0.7])
def test_few_pixels_are_as_far_from_each_other_as_many(
    step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From all pairs, and from the field of all distances: to the last bit."""
    rng = np.random.default_rng(0)
    for size, share in (((40, 31), 0.05), ((1, 70), 0.3), ((200, 3), 0.9), ((64, 64), 0.5)):
        edge, pixels = rng.random(size) < share, rng.random(size) < share
        found = []
        for most in (0, math.inf):
            monkeypatch.setattr(distances, "PAIRS_PER_PIXEL", most)
            found.append(Nearest(edge, Spacing(step, step)).to(pixels))
        assert len(found[0]) == pixels.sum()
        assert (found[0] == found[1]).all()
