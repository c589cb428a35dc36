"""Images of bands that are chosen by their numbers, as in multispectral TIFFs."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.datasets.exif import turned
from segbench.datasets.image_files import (
    NO_PAGE,
    ORIENTATION,
    UNREADABLE,
    ImagePixels,
    open_file,
    read_bytes,
    scale_values,
)
from segbench.errors import InputError
from segbench.params.datasets import ValueRange

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF or a BigTIFF begins."""
MOST_BYTES = 128
"""Of a pixel in all bands of a file on average: 16 bands of 64 bits, 64 of 16."""


def read_bands(
    path: Path,
    bands: Sequence[int],
    megapixels: float,
    value_range: ValueRange | None,
    turn: bool = True,
) -> ImagePixels:
    """Read some bands of an image file; those of a TIFF may also lie in a page each.

    Args:
        path: of the file.
        bands: their numbers in the file, from 1, in the order that is wanted.
        megapixels: the limit.
        value_range: of more than 8 bits, the values that become 0 and 255, of all bands or of each;
            None refuses them.
        turn: upright, as its EXIF says; else as stored.

    Returns:
        Pixels (H, W, bands), or (H, W) of a single band.

    Raises:
        InputError: if it is unreadable, too large, lacks a band, has too many bits, or holds values
            that are not finite.
    """
    data = read_bytes(path)
    if data[:4] in TIFF:
        values, orientation = _decode_tiff(data, path, megapixels)
        values = turned(values, orientation) if turn else values
    else:
        values, orientation = _decode(data, path, megapixels, turn)
    count = values.shape[2]
    if max(bands) > count:
        raise InputError(
            f"{path}: has {count} band{'s' if count > 1 else ''}, dataset.bands asks for number "
            f"{max(bands)}; correct it, or take the pair away"
        )
    chosen = np.ascontiguousarray(values[..., [band - 1 for band in bands]])
    if chosen.dtype == np.bool_:
        chosen = chosen.view(np.uint8) * np.uint8(255)
    pixels, clipped = (
        (chosen, 0.0) if chosen.dtype == np.uint8 else scale_values(chosen, path, value_range)
    )
    return ImagePixels(pixels[..., 0] if len(bands) == 1 else pixels, None, orientation, clipped)


def _decode(data: bytes, path: Path, megapixels: float, turn: bool) -> tuple[NDArray[Any], int]:
    """(H, W, bands) of a file that Pillow reads, with its alpha channel."""
    opened = open_file(data, path, megapixels, None, turn)
    image = opened.image
    if image.mode not in ("L", "LA", "RGB", "RGBA") and not image.mode.startswith(("I", "F")):
        image.info.pop("transparency", None)  # of which Pillow warns when it drops it
        image = image.convert("L" if image.mode == "1" else "RGB")
    values = np.asarray(image)
    return values.reshape(*values.shape[:2], -1), opened.orientation


def _decode_tiff(data: bytes, path: Path, megapixels: float) -> tuple[NDArray[Any], int]:
    """(H, W, bands) of a TIFF, as stored, and its orientation."""
    import tifffile  # here, as most datasets need none

    logging.getLogger("tifffile").disabled = True  # what matters is raised
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            wholes = [one for one in file.series if not one.keyframe.subfiletype & NO_PAGE]
            whole, page = wholes[0], wholes[0].keyframe
            others = [at for at, axis in enumerate(whole.axes) if axis not in "YX"]
            if len(wholes) > 1 or len(others) > 1:
                raise InputError(
                    f"{path}: holds several images (its axes are "
                    f"{', '.join(one.axes for one in wholes)}), one is read from a file, in which "
                    "bands may be samples or pages; write each into a file of its own"
                )
            if page.photometric in (tifffile.PHOTOMETRIC.PALETTE, tifffile.PHOTOMETRIC.MINISWHITE):
                raise InputError(
                    f"{path}: a TIFF with a palette, or in which white is 0, so that its values "
                    "are no intensities; save it without palette and with black as 0"
                )
            height, width = page.imagelength, page.imagewidth
            if height * width > megapixels * 1e6:
                raise InputError(
                    f"{path}: {width}x{height} pixels, dataset.limits.megapixels allows "
                    f"{megapixels:g} million; cut it into tiles or raise the limit"
                )
            if whole.nbytes > megapixels * 1e6 * MOST_BYTES:
                raise InputError(
                    f"{path}: its bands take {whole.nbytes / 2**30:.1f} GiB, "
                    "dataset.limits.megapixels allows "
                    f"{megapixels * 1e6 * MOST_BYTES / 2**30:.1f}; cut it into tiles or raise it"
                )
            _check_complete(whole.pages, len(data))
            values = whole.asarray()
            tag = page.tags.get(ORIENTATION)
            said = int(tag.value) if tag else 1
    except InputError:
        raise
    except (*UNREADABLE, tifffile.TiffFileError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: unreadable as a TIFF ({reason}); replace the file or take the pair away"
        ) from None
    values = np.moveaxis(values, others[0], -1) if others else values[..., None]
    return values, said if said in range(2, 9) else 1


def _check_complete(pages: Sequence[Any], size: int) -> None:
    """Raise ValueError if data of a page lie beyond the file's end: some decoders fill it up."""
    for page in filter(None, pages):
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > size:
            raise ValueError("it is cut off")
