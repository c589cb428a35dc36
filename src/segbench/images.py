"""Pixels: 8-bit images and masks of class ids, read and resized."""

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from segbench.errors import InputError

IGNORE = 255
"""Class id of pixels that neither train nor count."""

MOST_AT_ONCE = 4
"""Channels that OpenCV shrinks by area."""

BANDS_ENDING = ".npy"
"""Of canonical images that are neither grey nor RGB."""

Pixels = NDArray[np.uint8]


def open_image(file: Path | BinaryIO, formats: list[str] | None = None) -> ImageFile:
    """Pillow's `Image.open`, without its guard against large images.

    `dataset.limits.megapixels` stands in its place, and is checked where a dataset's own files are
    read. Every stage has to open without it what the first one let pass.
    """
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(file, formats=formats)


def read_pixels(path: Path) -> Pixels:
    """Read a canonical image or mask: (H, W, 3) RGB, (H, W), or (H, W, C) of other bands.

    By the library that decoded the dataset's own files, so that a JPEG gives the same pixels.

    Raises:
        InputError: if it is unreadable.
    """
    try:
        if path.suffix == BANDS_ENDING:
            bands: Pixels = np.load(path, allow_pickle=False)
            return bands
        with open_image(path) as image:
            return np.asarray(image)
    except (OSError, ValueError, EOFError):
        raise InputError(
            f"{path}: unreadable; run 'segbench repro -f download' to make it anew"
        ) from None


def resize(image: Pixels, mask: Pixels, height: int, width: int) -> tuple[Pixels, Pixels]:
    """Resize a sample: area (shrinking) or linear for the image, exact nearest for the mask.

    Args:
        image: (H, W, C) or (H, W).
        mask: (H, W) class ids.
        height: of both afterwards.
        width: likewise.
    """
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return resize_image(image, height, width, how), resize_mask(mask, height, width)


def resize_mask(mask: Pixels, height: int, width: int) -> Pixels:
    """Resize class ids (H, W) by exact nearest neighbour."""
    # The exact kind samples at pixel centres, as images do; plain nearest shifts the mask.
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def resize_image(image: Pixels, height: int, width: int, how: int) -> Pixels:
    """Resize an image of any number of channels; OpenCV does not shrink more than four by area.

    Args:
        image: (H, W, C) or (H, W).
        height: afterwards.
        width: likewise.
        how: OpenCV's interpolation.
    """
    if image.ndim == 2 or image.shape[2] <= MOST_AT_ONCE:
        return cv2.resize(image, (width, height), interpolation=how)
    pieces = (image[..., at : at + MOST_AT_ONCE] for at in range(0, image.shape[2], MOST_AT_ONCE))
    parts = [resize_image(np.ascontiguousarray(piece), height, width, how) for piece in pieces]
    return np.concatenate([part.reshape(height, width, -1) for part in parts], axis=2)


def as_rgb(image: Pixels) -> Pixels:
    """What people are shown of an image: (H, W, 3) of (H, W, C) or (H, W).

    Grey is repeated; of other bands the first three are red, green and blue; of two bands the
    second is green and blue.
    """
    bands = image.reshape(*image.shape[:2], -1)
    last = bands.shape[2] - 1
    return np.ascontiguousarray(bands[..., :3] if last >= 2 else bands[..., [0, last, last]])
