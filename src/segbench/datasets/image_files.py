"""Image files: opened upright, within limits, as 8-bit pixels."""

import errno
import io
import re
import struct
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from segbench.errors import InputError
from segbench.images import Pixels, open_image

# What Pillow raises for files that are torn or foreign.
UNREADABLE = (
    *(UnidentifiedImageError, OSError, SyntaxError, ValueError),
    *(EOFError, IndexError, NotImplementedError, struct.error, MemoryError),
)
# How Pillow reads colours of 16 bits, of which it drops the lower half.
DEEP_COLOUR = re.compile(";16[BLN]")
ORIENTATION = 0x0112
CANONICAL_FORMATS = {"PNG": ".png", "JPEG": ".jpg"}


def open_upright(data: bytes, path: Path, megapixels: float, page: int) -> tuple[Image.Image, str]:
    """Decode an image file upright, with its format.

    Args:
        data: of the file.
        path: for messages.
        megapixels: the limit, checked before anything is decoded.
        page: of a file that holds several images.

    Returns:
        The image; its format, empty where the file itself shows another image (turned, a page).

    Raises:
        InputError: if it is unreadable, too large or has more than 8 bits a channel in colour.
    """
    try:
        with open_image(io.BytesIO(data), _formats()) as image:
            if page:
                image.seek(page)
            size = image.size
            if size[0] * size[1] > megapixels * 1e6:
                raise InputError(
                    f"{path}: {size[0]}x{size[1]} pixels, dataset.limits.megapixels allows "
                    f"{megapixels:g} million; cut it into tiles or raise the limit"
                )
            deep = any(DEEP_COLOUR.search(str(tile[3])) for tile in image.tile)
            if deep and not image.mode.startswith("I"):
                raise InputError(
                    f"{path}: more than 8 bits a channel (in colour), the limit is 8; convert it"
                )
            image.load()
            if image.size != size:
                raise InputError(
                    f"{path}: decodes to {image.size[0]}x{image.size[1]} but its header says "
                    f"{size[0]}x{size[1]}; replace the file or take the pair away"
                )
            turned = image.getexif().get(ORIENTATION, 1) != 1
            upright = ImageOps.exif_transpose(image)
            upright.info.pop("transparency", None)  # of which Pillow warns when it drops it
            return upright, "" if turned or page else image.format or ""
    except InputError:
        raise
    except UNREADABLE as error:
        unknown = isinstance(error, UnidentifiedImageError)  # whose message has an address in it
        reason = "of no known format" if unknown else " ".join(str(error).split())
        raise InputError(
            f"{path}: unreadable as an image ({reason}); replace the file or take the pair away"
        ) from None


@cache
def _formats() -> list[str]:
    """All that Pillow reads, but what it decodes before a size can be checked, or by a program."""
    Image.init()
    return sorted(Image.OPEN.keys() - {"ICO", "EPS"})


def read_bytes(path: Path) -> bytes:
    """Read a file; InputError if it is gone or a link to nothing."""
    try:
        return path.read_bytes()
    except OSError as problem:
        if problem.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        raise InputError(
            f"{path}: gone, or a link to nothing; fetch what it points to or take the pair away"
        ) from None


def read_image(
    path: Path, megapixels: float, value_range: tuple[int, int] | None, page: int = 0
) -> tuple[Pixels, tuple[str, bytes] | None]:
    """Read an image file upright.

    Args:
        path: of the file.
        megapixels: the limit.
        value_range: of more than 8 bits a channel, the values that become 0 and 255; None refuses
            them.
        page: of a file that holds several images.

    Returns:
        (H, W, 3) RGB or (H, W) grey, uint8; and the file's ending and bytes if it is canonical
        already: a PNG or JPEG that decodes to these pixels.

    Raises:
        InputError: if it is unreadable, too large or of too many bits.
    """
    data = read_bytes(path)
    image, format = open_upright(data, path, megapixels, page)
    if image.mode.startswith(("I", "F")):
        return _scale(image, path, value_range), None
    if image.mode in ("RGB", "L"):
        encoded = (CANONICAL_FORMATS[format], data) if format in CANONICAL_FORMATS else None
        return np.asarray(image), encoded
    return np.asarray(image.convert("L" if image.mode in ("1", "LA") else "RGB")), None


def _scale(image: Image.Image, path: Path, value_range: tuple[int, int] | None) -> Pixels:
    if value_range is None:
        raise InputError(
            f"{path}: more than 8 bits a channel (mode {image.mode}), the limit is 8; convert it, "
            "or say in dataset.value_range which values become 0 and 255 (dataset.name: folder)"
        )
    low, high = value_range
    scaled = (np.asarray(image, np.float32) - low) * (255 / (high - low))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)
