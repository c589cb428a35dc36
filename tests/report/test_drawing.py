"""Pictures show the classes that a mask has, where it has them."""

import numpy as np
import pytest

from segbench.report.drawing import outline, shrink
from support.masks import nearest, stripes


@pytest.mark.parametrize(("size", "most"), [((61, 83), 52), ((61, 37), 48), ((45, 63), 21)])
def test_masks_shrink_by_exact_nearest_neighbour(size: tuple[int, int], most: int) -> None:
    masks = [stripes(*size, seed) for seed in (0, 1)]
    image = np.repeat(masks[0][..., None], 3, axis=2)
    small, *shrunk = shrink(image, *masks, most=most)
    assert max(small.shape[:2]) == most
    for mask, shrunk_mask in zip(masks, shrunk, strict=True):
        assert np.array_equal(shrunk_mask, nearest(mask, *small.shape[:2]))


def test_outlines_are_of_classes_that_are_there() -> None:
    """Between the classes 1 and 3 nothing is drawn in the colour of 2."""
    mask = np.where(stripes(40, 40) > 1, 3, 1).astype(np.uint8)
    colours = ["#000000", "#ff0000", "#00ff00", "#0000ff"]
    picture = outline(np.zeros((40, 40, 1), np.uint8), mask, colours=colours)
    assert {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} == {
        *((0, 0, 0), (255, 0, 0), (0, 0, 255))
    }
