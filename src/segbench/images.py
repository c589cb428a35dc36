"""Pixels: 8-bit images and masks of class ids, read and resized."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from segbench.errors import InputError
from segbench.labels import IGNORE as IGNORE

MOST_AT_ONCE = 4
"""Channels that OpenCV shrinks by area."""

BANDS_ENDING = ".npy"
"""Of canonical images that are neither grey nor RGB."""

LEVELS = 256
"""Of probabilities as bytes, floor(256 p)."""

Pixels = NDArray[np.uint8]


def open_image(file: Path | BinaryIO, formats: list[str] | None = None) -> ImageFile:
    """Pillow's `Image.open`, without its guard against large images.

    `dataset.limits.megapixels` stands in its place, and is checked where a dataset's own files are
    read. Every stage has to open without it what the first one let pass.
    """
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(file, formats=formats)


def decode_plain(data: bytes, image: Image.Image) -> Pixels | None:
    """Pixels of a plain file by OpenCV, equal to Pillow's in two thirds of the time.

    Args:
        data: of the file.
        image: Pillow's, of the same file, not decoded yet.

    Returns:
        (H, W, 3) RGB or (H, W) grey, as stored; None where Pillow must decode it: what is neither
        PNG nor JPEG, has other than 8 bits or transparency, or is torn.
    """
    is_plain = image.format in ("PNG", "JPEG") and image.mode in ("L", "RGB")
    if not is_plain or image.has_transparency_data:
        return None
    flags = cv2.IMREAD_GRAYSCALE if image.mode == "L" else cv2.IMREAD_COLOR_RGB
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def encode_mask(mask: Pixels) -> bytes:
    """The PNG of class ids (H, W): without filters, which takes a third of the time to read."""
    how = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_COMPRESSION, 1]
    return cv2.imencode(".png", mask, how)[1].tobytes()


def decode_mask(data: bytes) -> Pixels:
    """Class ids (H, W) of a PNG that `encode_mask` made."""
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    return mask.astype(np.uint8, copy=False)


def read_pixels(path: Path) -> Pixels:
    """Read a canonical image or mask: (H, W, 3) RGB, (H, W), or (H, W, C) of other bands.

    As the dataset's own files were decoded, so that a JPEG gives the same pixels.

    Raises:
        InputError: if it is unreadable.
    """
    try:
        if path.suffix == BANDS_ENDING:
            bands: Pixels = np.load(path, allow_pickle=False)
            return bands
        data = path.read_bytes()
        with open_image(io.BytesIO(data)) as image:
            pixels = decode_plain(data, image)
            return np.asarray(image) if pixels is None else pixels
    except (OSError, ValueError, EOFError):
        raise InputError(
            f"{path}: unreadable; run 'segbench repro -f download' to make it anew"
        ) from None


def count_values(values: Pixels) -> NDArray[np.int64]:
    """(256,): how many pixels hold each value. Masks seldom hold more than two or three."""
    counts = np.zeros(256, np.int64)
    for value in (int(values.min()), int(values.max()), 1):
        counts[value] = np.count_nonzero(values == value)
    if counts.sum() < values.size:
        counts[:] = np.bincount(values.ravel(), minlength=256)
    return counts


def histogram(values: Pixels, where: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """(256,): how many pixels (H, W), or those of them that are marked, hold each value.

    OpenCV's, five times as fast as numpy's.
    """
    counts = np.zeros(256, np.int64)
    for part in _exact_parts(values):
        own = None if where is None else np.ascontiguousarray(where[part]).view(np.uint8)
        own_values = np.ascontiguousarray(values[part], np.uint8)
        found = cv2.calcHist([own_values], [0], own, [256], [0, 256])
        counts += found.ravel().astype(np.int64)
    return counts


def joint_histogram(first: Pixels, second: Pixels, number: int) -> NDArray[np.int64]:
    """(number, number): how many pixels (H, W) hold each value of one mask and of another, a row
    for each of the first; values from `number` on are in no cell."""
    counts = np.zeros((number, number), np.int64)
    for part in _exact_parts(first):
        pair = [np.ascontiguousarray(one[part], np.uint8) for one in (first, second)]
        found = cv2.calcHist(pair, [0, 1], None, [number, number], [0, number, 0, number])
        counts += found.astype(np.int64)
    return counts


def _exact_parts(values: Pixels) -> Iterator[slice]:
    """Rows of no more than 2^24 pixels, as many as floats count exactly."""
    rows = max(1, 2**24 // values.shape[1])
    return (slice(top, top + rows) for top in range(0, len(values), rows))


def most_probable(planes: Iterable[NDArray[np.float32]]) -> Pixels:
    """Class ids (H, W) at which planes (H, W), one for each class in order, are greatest; the
    first of equals."""
    ids: Pixels
    for class_id, plane in enumerate(planes):
        if class_id == 0:
            most, ids = plane.copy(), np.zeros(plane.shape, np.uint8)
            continue
        # Ids only grow, so that the greater one is the later one. Numpy vectorises this, unlike a
        # maximum over an axis or an assignment by mask.
        np.maximum(ids, (plane > most).view(np.uint8) * np.uint8(class_id), out=ids)
        np.maximum(most, plane, out=most)
    return ids


def resize(image: Pixels, mask: Pixels, height: int, width: int) -> tuple[Pixels, Pixels]:
    """Resize a sample: area (shrinking) or linear for the image, exact nearest for the mask.

    Args:
        image: (H, W, C) or (H, W).
        mask: (H, W) class ids.
        height: of both afterwards.
        width: likewise.
    """
    return fit_image(image, height, width), resize_mask(mask, height, width)


def fit_image(image: Pixels, height: int, width: int) -> Pixels:
    """Resize an image (H, W, C) or (H, W) for a network: by area if it shrinks, else linear."""
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return resize_image(image, height, width, how)


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


def with_channels(image: Pixels, channels: int) -> Pixels:
    """An image as it is, or grey (H, W) repeated where networks take red, green and blue."""
    grey_among_colours = image.ndim == 2 and channels == 3
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if grey_among_colours else image


def as_rgb(image: Pixels) -> Pixels:
    """What people are shown of an image: (H, W, 3) of (H, W, C) or (H, W).

    Grey is repeated; of other bands the first three are red, green and blue; of two bands the
    second is green and blue.
    """
    bands = image.reshape(*image.shape[:2], -1)
    last = bands.shape[2] - 1
    return np.ascontiguousarray(bands[..., :3] if last >= 2 else bands[..., [0, last, last]])
