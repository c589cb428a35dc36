"""Repeat-factor sampling, by hand."""

import numpy as np
import pytest

from segbench.training.oversampling import repeat_factors


def test_repeat_factors_by_hand() -> None:
    held = np.zeros((100, 4), bool)
    held[:, 0] = True  # the background, which asks for nothing
    held[:50, 1] = True
    held[48:52, 2] = True
    factors = repeat_factors(held, 0.16, [1, 2, 3])
    assert factors[:48] == pytest.approx(1.0)  # 0.5 of the images hold class 1
    assert factors[48:52] == pytest.approx(2.0)  # sqrt(0.16 / 0.04), whatever else they hold
    assert factors[52:] == pytest.approx(1.0)
    # Class 3 is nowhere, and the background is held by few here.
    assert repeat_factors(~held, 0.16, [1, 2, 3])[:48].max() == pytest.approx(1.0)


def test_the_background_is_never_rare() -> None:
    held = np.ones((100, 2), bool)
    held[1:, 0] = False
    assert (repeat_factors(held, 0.9, [1]) == 1).all()
