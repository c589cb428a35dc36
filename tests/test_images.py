"""Pixels are read whatever their number, and masks are resized without making up classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.images import read_pixels


def test_pillows_own_limit_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dataset.limits.megapixels refused what is too large long before; a stage that reads what it
    let pass must not die of it, nor warn."""
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    for limit in (64 * 48 // 3, 64 * 48 - 1):  # an error, and a warning
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert np.array_equal(read_pixels(tmp_path / "large.png"), pixels)
