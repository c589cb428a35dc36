"""Classes are filled in their colours, errors hatched, and nothing else is touched."""

import numpy as np

from segbench.images import IGNORE
from segbench.report.overlay import overlay

COLOURS = ["#000000", "#00ff00", "#ff0000"]


def test_background_shows_the_image_and_a_class_its_colour() -> None:
    image = np.full((160, 160, 3), 100, np.uint8)
    mask = np.zeros((160, 160), np.uint8)
    mask[:80] = 1
    drawn = overlay(image, mask, COLOURS, 0)
    assert (drawn[100:] == 100).all()
    red, green, blue = drawn[40, 40]
    assert green > 150 > red == blue
    assert overlay(image, mask, COLOURS, None)[120, 40, 1] < 100  # class 0 is filled too


def test_errors_are_hatched_and_ignored_pixels_are_not() -> None:
    image = np.full((160, 160, 3), 100, np.uint8)
    truth = np.zeros((160, 160), np.uint8)
    pred = truth.copy()
    truth[:40], pred[40:80], truth[120:] = 1, 2, IGNORE
    pred[120:] = 1
    drawn = overlay(image, pred, COLOURS, 0, truth)
    for part in (drawn[:40], drawn[42:78]):  # missed, and found where nothing is
        assert (part == 0).all(axis=2).any()
        assert (part == 255).all(axis=2).any()
    for part in (drawn[82:118], drawn[122:158]):
        assert not (part == 255).all(axis=2).any()


def test_a_small_picture_is_enlarged() -> None:
    small = np.zeros((20, 40, 3), np.uint8)
    assert overlay(small, np.zeros((20, 40), np.uint8), COLOURS, 0).shape == (160, 320, 3)
