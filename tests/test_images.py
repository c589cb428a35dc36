"""Pixels are read whatever their number, and masks are resized without making up classes."""

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segbench.images import Pixels, count_values, decode_plain, encode_mask, read_pixels, resize
from support.masks import CLASSES, RESIZES, nearest, stripes


def test_pillows_own_limit_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dataset.limits.megapixels refused what is too large long before; a stage that reads what it
    let pass must not die of it, nor warn."""
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    for limit in (64 * 48 // 3, 64 * 48 - 1):  # an error, and a warning
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert np.array_equal(read_pixels(tmp_path / "large.png"), pixels)


@pytest.mark.parametrize(("before", "after"), RESIZES)
def test_masks_are_resized_by_exact_nearest_neighbour(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    """An edge between the classes 1 and 3 never gives 2, and no mask moves by part of a pixel."""
    mask = stripes(*before)
    image = np.repeat(mask[..., None], 3, axis=2)
    small, resized_mask = resize(image, mask, *after)
    assert small.shape == (*after, 3)
    assert np.array_equal(resized_mask, nearest(mask, *after))


@pytest.mark.parametrize("kind", [cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA])
def test_other_interpolation_gives_other_masks(kind: int) -> None:
    """So that the test above can fail: plain nearest moves a mask, the others make up classes."""
    mask = stripes(61, 83)
    other = cv2.resize(mask, (52, 37), interpolation=kind)
    assert not np.array_equal(other, nearest(mask, 37, 52))
    assert (set(np.unique(other)) <= set(CLASSES)) == (kind == cv2.INTER_NEAREST)


def plain_files() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    ways: list[tuple[str, dict[str, Any]]] = [
        *(("JPEG", {"subsampling": how}) for how in (0, 1, 2)),
        ("JPEG", {"progressive": True, "quality": 40}),
        ("JPEG", {"restart_marker_rows": 1}),
        ("PNG", {}),
        ("PNG", {"compress_level": 0}),
    ]
    for shape in ((61, 97), (61, 97, 3), (16, 8, 3)):
        noise = cv2.GaussianBlur(rng.integers(0, 256, shape, dtype=np.uint8), (5, 5), 0)
        for kind, options in ways:
            file = io.BytesIO()
            Image.fromarray(noise).save(file, kind, **options)
            yield f"{shape} {kind} {options}", file.getvalue()


def both_ways(data: bytes) -> tuple[Pixels | None, Pixels | None]:
    """By OpenCV and by Pillow; None where one refuses."""
    fast = slow = None
    with suppress(OSError, SyntaxError), Image.open(io.BytesIO(data)) as image:
        fast = decode_plain(data, image)
        slow = np.asarray(image)
    return fast, slow


def test_plain_files_are_decoded_as_pillow_does() -> None:
    for name, data in plain_files():
        fast, slow = both_ways(data)
        assert fast is not None, name
        assert slow is not None, name
        assert np.array_equal(fast, slow), name


def test_torn_files_are_left_to_pillow() -> None:
    """Else the lower part of an image would be grey, and nothing said."""
    for name, data in plain_files():
        for end in (*range(40, len(data) - 12, max(1, len(data) // 60)), len(data) - 1):
            fast, slow = both_ways(data[:end])
            assert fast is None or (slow is not None and np.array_equal(fast, slow)), (name, end)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_what_is_not_plain_is_left_to_pillow(mode: str) -> None:
    image = Image.new("I;16", (8, 8)) if mode == "I;16" else Image.new("RGB", (8, 8)).convert(mode)
    file = io.BytesIO()
    image.save(file, "JPEG" if mode == "CMYK" else "PNG")
    with Image.open(file) as opened:
        assert decode_plain(file.getvalue(), opened) is None


def test_masks_are_read_as_they_were_written() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (33, 57), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_mask(mask)))), mask)


def test_values_are_counted_whatever_they_are() -> None:
    rng = np.random.default_rng(0)
    for values in ([0, 1], [7], [0, 1, 255], [3, 9, 12, 200], range(256)):
        pixels = rng.choice(np.array([*values], np.uint8), (40, 50))
        expected = np.bincount(pixels.ravel(), minlength=256)
        assert np.array_equal(count_values(pixels), expected)


@pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (1, 2, 3))])
def test_a_colour_that_is_transparent_is_left_to_pillow(mode: str, clear: Any) -> None:
    """Its pixels are counted."""
    file = io.BytesIO()
    Image.new(mode, (8, 8), clear).save(file, "PNG", transparency=clear)
    with Image.open(file) as opened:
        assert opened.mode == mode
        assert decode_plain(file.getvalue(), opened) is None
