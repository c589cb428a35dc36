"""Pictures show the classes that a mask has, where it has them."""

import cv2
import numpy as np
import pytest
from PIL import ImageColor

from segbench.labels import LabelScheme
from segbench.report.drawing import (
    BACKGROUND_COLOUR,
    IGNORED_COLOUR,
    class_colours,
    outline,
    shrink,
)
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
    picture = outline(np.zeros((40, 40, 1), np.uint8), mask, colours=colours, background=0)
    assert {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} == {
        *((0, 0, 0), (255, 0, 0), (0, 0, 255))
    }


# Full deuteranopia and protanopia, on linear sRGB: Machado, Oliveira and Fernandes 2009.
BLIND = {
    "none": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}


def lab(colours: list[str], blindness: str) -> np.ndarray:
    """(N, 3) in CIELAB, as someone sees them."""
    srgb = np.array([ImageColor.getrgb(colour)[:3] for colour in colours]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(BLIND[blindness]).T).clip(0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(back[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize(
    ("blindness", "least"), [("none", 12), ("deuteranopia", 6), ("protanopia", 3)]
)
def test_the_colours_of_many_classes_are_told_apart(blindness: str, least: float) -> None:
    """A difference of 2.3 is just noticed (Mahy, Van Eycken and Oosterlinck 1994)."""
    for scheme in (LabelScheme(30, 0), LabelScheme(32, None), LabelScheme(24, 5)):
        colours = class_colours((), scheme)
        assert len(colours) == scheme.num_classes
        seen = lab([*colours, IGNORED_COLOUR], blindness)
        apart = np.linalg.norm(seen[:, None] - seen, axis=2)
        assert apart[np.triu_indices(len(seen), 1)].min() > 5 * 2.3


def test_no_two_classes_share_a_colour() -> None:
    for scheme in (LabelScheme(2, 0), LabelScheme(100, None), LabelScheme(100, 7)):
        assert len(set(class_colours((), scheme))) == scheme.num_classes
    assert class_colours((), LabelScheme(3, 1))[1] == BACKGROUND_COLOUR
    assert class_colours(("#010203", "#040506"), LabelScheme(2, 0)) == ["#010203", "#040506"]


def test_the_background_has_no_outline() -> None:
    mask = np.where(stripes(40, 40) > 1, 3, 1).astype(np.uint8)
    colours = ["#000000", "#ff0000", "#00ff00", "#0000ff"]
    blank = np.zeros((40, 40, 1), np.uint8)
    picture = outline(blank, mask, colours=colours, background=3)
    assert {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} == {(0, 0, 0), (255, 0, 0)}
