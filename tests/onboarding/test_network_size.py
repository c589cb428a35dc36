"""The network's size: the smallest at which no mask of the sample loses an object."""

import cv2
import numpy as np
import pytest

from segbench.images import IGNORE, Pixels, resize
from segbench.onboarding.sizes import SIZES, NetworkSize, SizeTrial, losses


def choose(*masks: Pixels) -> NetworkSize:
    trial = SizeTrial()
    for mask in masks:
        trial.add(mask)
    return trial.choose()


def squares(side: int, height: int = 512, width: int = 512, long: int = 0) -> Pixels:
    """A mask with objects of one size, at all places relative to a grid; squares unless long."""
    mask = np.zeros((height, width), np.uint8)
    for at in range(7, min(height, width) - side - 7, side + 21):
        mask[at : at + side, at : at + max(side, long)] = 1
    return mask


@pytest.mark.parametrize(("side", "size"), [(80, 64), (8, 64), (5, 128), (3, 192)])
def test_small_objects_need_large_networks(side: int, size: int) -> None:
    found = choose(squares(80), squares(side))
    assert (found.height, found.width, found.patch, found.lost) == (size, size, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_lost_is_what_resizing_loses(seed: int) -> None:
    """Counted as the pipeline resizes masks, object by object."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((211, 173), np.uint8)
    for _ in range(6):
        middle = tuple(int(one) for one in rng.integers(5, 168, 2))
        cv2.circle(mask, middle, int(rng.integers(2, 6)), int(rng.integers(1, 3)), -1)
    sizes = [(64, 64), (32, 64), (20, 20)]
    expected = []
    for height, width in sizes:
        lost, shares = False, [0.0, 0.0]
        for class_id in (1, 2):
            count, labels = cv2.connectedComponents((mask == class_id).astype(np.uint8))
            for number in range(1, count):
                one = (labels == number).astype(np.uint8)
                if one.sum() >= 9:
                    small = resize(one, one, height, width)[1]
                    lost |= not small.any()
                    shares = [shares[0] + small.mean(), shares[1] + one.mean()]
        expected.append(lost or shares[0] < 0.5 * shares[1])
    assert losses(mask, sizes) == expected
    assert len(set(expected)) > 1 or seed


def test_specks_ignored_pixels_and_background_are_no_objects() -> None:
    mask = squares(80)
    mask[400, 400] = 1
    mask[:30] = IGNORE
    assert choose(mask).height == SIZES[0]


def test_the_shape_follows_the_images() -> None:
    found = choose(squares(60, 300, 600))
    assert (found.height, found.width) == (64, 64)
    found = choose(squares(3, 320, 640))
    assert (found.width, found.height) == (192, 96)


@pytest.mark.parametrize(("side", "patch"), [(4, 2048), (3, 1024)])
def test_huge_images_with_small_objects_are_cut(side: int, patch: int) -> None:
    """Into the largest patches that lose none when they are made 512 pixels wide."""
    found = choose(squares(side, 2500, 3000, long=15))
    assert (found.height, found.width, found.patch, found.lost) == (512, 512, patch, 0)
    assert found.smaller == "at 512 1 of 1 masks lose an object"


def test_small_images_are_not_enlarged_for_what_no_size_keeps() -> None:
    assert choose(np.eye(40, 56, dtype=np.uint8)).height == 64
