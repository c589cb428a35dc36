"""Images of a request: files in base64, or pixels."""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np

from segbench.datasets.image_files import decode_image
from segbench.errors import InputError
from segbench.images import Pixels, with_channels

MOST_BYTES = 16
"""Of a file, for each pixel that an image may have."""
COLOURS = (3, 4)
"""Numbers that a pixel in colour has, the fourth being its transparency."""
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP")
"""Of Pillow's formats, those that are decoded for whoever asks."""


def images_of(request: Any, most: int) -> list[Any]:
    """The images of a request, which are not read yet.

    Args:
        request: a list, an array (N, H, W, C), or a table whose first column holds images.
        most: of them.

    Raises:
        InputError: for another kind of request, one image instead of a list, no image, and too
            many.
    """
    if hasattr(request, "iloc"):
        request = list(request.iloc[:, 0])
    if not isinstance(request, list | np.ndarray) or getattr(request, "ndim", 1) == 0:
        raise InputError(
            f"inputs is {_kind(request)}; send a list of images, as in "
            '{"inputs": ["<base64 of a PNG or JPEG>"]}'
        )
    if _is_one_image(request):
        raise InputError(
            f"inputs has the shape {_shape(request)}, which is one image; send a list, [image]"
        )
    if not 0 < len(request) <= most:
        raise InputError(f"{len(request)} images in a request; send 1 to {most}")
    return list(request)


def _is_one_image(request: Any) -> bool:
    """Whether a request is an image where a list of them is expected.

    Each of its rows could be read as an image. An array may also be a stack of grey images, which
    nothing tells from an image of many bands.
    """
    shape = _shape(request)
    if isinstance(request, np.ndarray):
        return len(shape) in (2, 3) and request.dtype != object
    return len(shape) == 3 and shape[2] in COLOURS


def _shape(value: Any) -> tuple[int, ...]:
    """Of nested lists and arrays, as the first item of each says."""
    found: list[int] = []
    while isinstance(value, list | np.ndarray) and len(value):
        found.append(len(value))
        value = value[0]
    return tuple(found)


class Reader:
    """Reads images as training does.

    Args:
        data: how, see `bundle`: `megapixels`, `bands`, `value_range` and `turn`.
        channels: of the network.
    """

    def __init__(self, data: dict[str, Any], channels: int) -> None:
        self._data = data
        self._channels = channels

    def read(self, image: Any, name: str) -> Pixels:
        """Pixels (H, W, C), or (H, W) where C is 1.

        Args:
            image: base64 or bytes of a file; or pixels (H, W) or (H, W, C), from 0 to 255.
            name: of the image, for messages.

        Raises:
            InputError: if it cannot be used.
        """
        is_file = isinstance(image, str | bytes)
        pixels = self._decode(image, name) if is_file else self._pixels(image, name)
        pixels = with_channels(pixels, self._channels)
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        if channels != self._channels:
            raise InputError(f"{name}: has {channels} channels; the network takes {self._channels}")
        return pixels

    def _decode(self, image: str | bytes, name: str) -> Pixels:
        limit = self._data["megapixels"]
        if self._data["bands"]:
            bands = len(self._data["bands"])
            raise InputError(f"{name}: a file; send an array of height x width x {bands} bands")
        if len(image) > MOST_BYTES * limit * 1e6:
            raise InputError(f"{name}: too large a file; it may have {limit:g} million pixels")
        data = image if isinstance(image, bytes) else _from_base64(image, name)
        try:
            how = (limit, _range(self._data["value_range"]), None, self._data["turn"])
            return decode_image(data, Path(name), *how, formats=FORMATS).pixels
        except InputError as mistake:
            # What follows says what to do with a file of a dataset.
            what = str(mistake).partition("; ")[0].replace("dataset.limits.megapixels", "the limit")
            raise InputError(f"{what}; send another image") from None

    def _pixels(self, image: Any, name: str) -> Pixels:
        asked = "send base64 of a file, or rows of pixels: whole numbers from 0 to 255"
        try:
            values = np.asarray(image)
        except ValueError:
            raise InputError(f"{name}: rows of different lengths; {asked}") from None
        if values.ndim not in (2, 3) or not values.size:
            raise InputError(f"{name}: {_kind(image)} of shape {values.shape}; {asked}")
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"{name}: values of type {values.dtype}; {asked}")
        if values.min() < 0 or values.max() > 255:
            raise InputError(f"{name}: values from {values.min()} to {values.max()}; {asked}")
        height, width = values.shape[:2]
        if height * width > self._data["megapixels"] * 1e6:
            limit = self._data["megapixels"]
            raise InputError(f"{name}: {width}x{height} pixels; the limit is {limit:g} million")
        pixels = np.ascontiguousarray(values, np.uint8)
        return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def _from_base64(text: str, name: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name}: not base64; send a PNG or JPEG in base64") from None


def _range(value: Any) -> Any:
    """A range of values as params have it, of JSON's lists."""
    if value is None:
        return None
    each = isinstance(value[0], list)
    return [tuple(one) for one in value] if each else tuple(value)


def _kind(value: Any) -> str:
    names = {str: "text", dict: "an object", type(None): "null", bool: "a boolean"}
    plain = names.get(type(value), type(value).__name__)
    return "a number" if isinstance(value, int | float) and value is not True else plain
