"""Image files: opened within limits, as 8-bit pixels, upright or as stored."""

import errno
import io
import re
import stat
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from segbench.errors import InputError
from segbench.images import Pixels, decode_plain, open_image

if TYPE_CHECKING:  # a served model takes this module along without params
    from segbench.params.datasets import ValueRange

# What Pillow and its codecs raise for files that are torn or foreign.
UNREADABLE = (
    *(UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, LookupError),
    *(EOFError, RuntimeError, AssertionError, struct.error, zlib.error, MemoryError),
)
# How Pillow reads colours of 16 bits, of which it drops the lower half.
DEEP_COLOUR = re.compile(";16[BLN]")
CANONICAL_FORMATS = {"PNG": ".png", "JPEG": ".jpg"}
# Whose first image is the whole, and the others are previews of it or its layers.
FIRST_IS_THE_WHOLE = {"MPO", "PSD"}
# Tags of EXIF and TIFF, and the bits of SUBFILE that mark a smaller version or a transparency mask.
ORIENTATION, SUBFILE, PHOTOMETRIC, SAMPLES, SAMPLE_FORMAT = 0x0112, 254, 262, 277, 339
NO_PAGE = 0b101
PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
WHITE_IS_ZERO, SIGNED = 0, 2


@dataclass(frozen=True, slots=True)
class Opened:
    """An image file, decoded.

    Attributes:
        image: upright, or as stored; not decoded where `pixels` are there.
        format: Pillow's name.
        whole: the file itself shows this image; it is no page of it, and has no EXIF to turn it.
        orientation: of its EXIF, 1 to 8; 1 is upright.
        pixels: (H, W, 3) or (H, W) of a plain image, decoded the fast way.
    """

    image: Image.Image
    format: str
    whole: bool
    orientation: int
    pixels: Pixels | None = None


@dataclass(frozen=True, slots=True)
class ImagePixels:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, 3) RGB, (H, W) grey, or (H, W, C) of other bands.
        encoded: the file's ending and bytes if it is canonical already: a PNG or JPEG that decodes
            to these pixels.
        orientation: of its EXIF, 1 to 8.
        clipped: share of the pixels outside `value_range`.
        transparent: share of the pixels that are not opaque.
    """

    pixels: Pixels
    encoded: tuple[str, bytes] | None
    orientation: int
    clipped: float
    transparent: float = 0.0


def open_file(
    data: bytes,
    path: Path,
    megapixels: float,
    page: int | None,
    turn: bool = True,
    fast: bool = False,
    formats: Sequence[str] | None = None,
) -> Opened:
    """Decode an image file.

    Args:
        data: of the file.
        path: for messages.
        megapixels: the limit, checked before anything is decoded.
        page: of a file that holds several images; None: it must hold one.
        turn: upright, as its EXIF says; else as stored.
        fast: decode a plain image by `decode_plain`, and leave Pillow's undecoded.
        formats: Pillow's names of those that are read; None: all that can be.

    Raises:
        InputError: if it is unreadable, too large, holds several images where one is expected, or
            bands or bits that Pillow would drop.
    """
    try:
        taken = [one for one in _formats() if formats is None or one in formats]
        with open_image(io.BytesIO(data), taken) as image:
            if page is None:
                _check_single(image, path)
            else:
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
                    f"{path}: more than 8 bits a channel (in colour), the limit is 8; convert it, "
                    "or read a TIFF by dataset.bands: [1, 2, 3] and dataset.value_range"
                )
            _check_tiff(image, path)
            _check_bitmap(image, data, path)
            if fast and page is None and not _may_turn(image, data):
                pixels = decode_plain(data, image)
                if pixels is not None and pixels.shape[1::-1] == size:
                    return Opened(image, str(image.format), True, 1, pixels)
            image.load()
            if image.size != size:
                raise InputError(
                    f"{path}: decodes to {image.size[0]}x{image.size[1]} but its header says "
                    f"{size[0]}x{size[1]}; replace the file or take the pair away"
                )
            said = image.getexif().get(ORIENTATION, 1)
            orientation = said if said in range(2, 9) else 1
            is_turned = turn and orientation != 1
            shown = ImageOps.exif_transpose(image) if is_turned else image
            return Opened(shown, str(image.format), page is None and said == 1, orientation)
    except InputError:
        raise
    except UNREADABLE as error:
        unknown = isinstance(error, UnidentifiedImageError)  # whose message has an address in it
        reason = "of no known format" if unknown else " ".join(str(error).split())
        raise InputError(
            f"{path}: unreadable as an image ({reason}); replace the file or take the pair away"
        ) from None


def _may_turn(image: ImageFile, data: bytes) -> bool:
    """Whether an image that is not decoded yet may say that it is to be turned.

    A PNG may say so behind its pixels, so Pillow would decode it to know.
    """
    if image.format == "PNG":
        return any(mark in data for mark in PNG_EXIF)
    return bool(image.getexif().get(ORIENTATION, 1) != 1)


def _check_single(image: ImageFile, path: Path) -> None:
    """Raise InputError for a file of several images, of which all but the first would be lost."""
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format in FIRST_IS_THE_WHOLE:
        return
    if image.format == "TIFF":
        pages = [page for page in range(1, count) if _is_page(image, page)]
        image.seek(0)
        count = 1 + len(pages)
    if count > 1:
        raise InputError(
            f"{path}: holds {count} images (pages or frames), one is read from a file; "
            "write each into a file of its own, and name what they belong to in dataset.group"
        )


def _is_page(image: ImageFile, page: int) -> bool:
    image.seek(page)
    return not _tag(image, SUBFILE, 0) & NO_PAGE


def _check_tiff(image: ImageFile, path: Path) -> None:
    """Raise InputError for a TIFF of more bands than Pillow shows, or of values that it turns."""
    if image.format != "TIFF":
        return
    bands = _tag(image, SAMPLES, 1)
    if bands > len(image.getbands()):
        raise _too_many_bands(path, bands)
    if image.mode == "L" and _tag(image, SAMPLE_FORMAT, 1) == SIGNED:
        raise InputError(
            f"{path}: signed values of 8 bits, of which the negative ones would become large; save "
            "it with values from 0 to 255, or an image as signed 16 bits"
        )
    if image.mode.startswith("I") and _tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        raise InputError(
            f"{path}: a TIFF of 16 bits in which white is 0, which would be read as a negative; "
            "save it with black as 0"
        )


def _check_bitmap(image: ImageFile, data: bytes, path: Path) -> None:
    """Raise InputError for a BMP whose bits Pillow takes for fewer or more, and shows other pixels.

    It does so where a palette is grey: for one bit if it holds black and white, else for eight.
    """
    bits = int.from_bytes(data[28:30] if data[14] > 12 else data[24:26], "little")
    if image.format == "BMP" and {"1": 1, "L": 8}.get(image.mode, bits) != bits:
        raise InputError(
            f"{path}: a BMP of {bits} bits a pixel with a grey palette, which is not read rightly; "
            "save it as PNG"
        )


def _too_many_bands(path: Path, bands: int) -> InputError:
    return InputError(
        f"{path}: has {bands} bands, the limit is 3 (red, green, blue) unless dataset.bands says "
        "which the network should see (dataset.name: folder)"
    )


def _tag(image: ImageFile, number: int, default: int) -> int:
    value = image.tag_v2.get(number, default)  # type: ignore[attr-defined]
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else default


@cache
def _formats() -> list[str]:
    """All that Pillow reads, but what it decodes before a size can be checked, or by a program."""
    Image.init()
    return sorted(Image.OPEN.keys() - {"ICO", "EPS"})


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        InputError: if it is gone, a link to nothing, or no file at all (a pipe would be waited
            for, and a device read without end).
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(
                f"{path}: a folder, pipe or device, not a file; put the file in its place or "
                "narrow the patterns"
            )
        return path.read_bytes()
    except OSError as problem:
        if problem.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        raise InputError(
            f"{path}: gone, or a link to nothing; fetch what it points to or take the pair away"
        ) from None


def read_image(
    path: Path,
    megapixels: float,
    value_range: "ValueRange | None",
    page: int | None = None,
    turn: bool = True,
) -> ImagePixels:
    """Read an image file, see `decode_image`."""
    return decode_image(read_bytes(path), path, megapixels, value_range, page, turn)


def decode_image(
    data: bytes,
    path: Path,
    megapixels: float,
    value_range: "ValueRange | None",
    page: int | None = None,
    turn: bool = True,
    formats: Sequence[str] | None = None,
) -> ImagePixels:
    """Decode an image file.

    Args:
        data: of the file.
        path: for messages.
        megapixels: the limit.
        value_range: of more than 8 bits a channel, the values that become 0 and 255; None refuses
            them.
        page: of a file that holds several images.
        turn: upright, as its EXIF says; else as stored.
        formats: see `open_file`.

    Raises:
        InputError: if it is unreadable, too large, of too many bits or bands, or holds values that
            are not finite.
    """
    opened = open_file(data, path, megapixels, page, turn, fast=True, formats=formats)
    image = opened.image
    if opened.pixels is not None:
        encoded = (CANONICAL_FORMATS[opened.format], data) if opened.whole else None
        return ImagePixels(opened.pixels, encoded, opened.orientation, 0.0)
    if image.mode.startswith(("I", "F")):
        pixels, clipped = scale_values(np.asarray(image), path, value_range)
        return ImagePixels(pixels, None, opened.orientation, clipped)
    transparent = 0.0
    if image.has_transparency_data:
        levels = image.convert("RGBA").getchannel("A").histogram()
        transparent = 1 - levels[-1] / sum(levels)
    if image.mode in ("RGB", "L"):
        ending = CANONICAL_FORMATS.get(opened.format)
        encoded = (ending, data) if ending and opened.whole else None
        return ImagePixels(np.asarray(image), encoded, opened.orientation, 0.0, transparent)
    # Libraries call the fourth band of a TIFF alpha unless told otherwise. Transparency is mostly
    # all or nothing.
    if (opened.format, image.mode) == ("TIFF", "RGBA"):
        levels = image.getchannel("A").histogram()
        if np.count_nonzero(levels) > 2:
            raise _too_many_bands(path, 4)
    image.info.pop("transparency", None)  # of which Pillow warns when it drops it
    shown = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    return ImagePixels(np.asarray(shown), None, opened.orientation, 0.0, transparent)


def scale_values(
    values: NDArray[Any], path: Path, value_range: "ValueRange | None"
) -> tuple[Pixels, float]:
    """Values of more than 8 bits as 8-bit pixels.

    Args:
        values: (H, W) or (H, W, C).
        path: for messages.
        value_range: what becomes 0 and 255, of all channels or of each; None refuses.

    Returns:
        The pixels, and the share of the values outside the range, which become 0 or 255.

    Raises:
        InputError: without a range, and for values that are not finite.
    """
    if value_range is None:
        raise InputError(
            f"{path}: more than 8 bits a channel ({values.dtype}), the limit is 8; convert it, or "
            "say in dataset.value_range which values become 0 and 255 (dataset.name: folder)"
        )
    limits = np.array(value_range).T
    factor = (255 / (limits[1] - limits[0])).astype(np.float32)
    low, high = limits.astype(np.float32)
    values = values.astype(np.float32)
    unknown = values.size - int(np.isfinite(values).sum())
    if unknown:
        raise InputError(
            f"{path}: {unknown} of its {values.size} pixels are NaN or infinite; write a number in "
            "their place, and mark them as ignored in the mask if they mean nothing"
        )
    clipped = float(((values < low) | (values > high)).mean())
    scaled = (values - low) * factor
    return np.rint(scaled.clip(0, 255)).astype(np.uint8), clipped
