"""What image files are like: sizes, bits, bands, EXIF; by their headers and a few of them whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from segbench.datasets.image_files import ORIENTATION, SAMPLES, UNREADABLE
from segbench.images import open_image
from segbench.onboarding.tiffs import ENDINGS, bands_of, shape_of

# Of deep images, the share of the pixels that may lie beyond each end of the range, and pixels of
# each that are looked at.
BEYOND, MOST_PIXELS = 0.001, 40_000
# A range that begins so near to 0, as a share of its length, begins at 0.
NEAR_ZERO = 0.05
# The tag of a TIFF that tells an alpha channel from a band.
EXTRA_SAMPLES, ALPHA, BITS = 338, (1, 2), 258
Range = list[int | float]


@dataclass
class Photographs:
    """What a sample of image files is like.

    Attributes:
        sizes: (height, width) of each, and how many have it.
        modes: Pillow's, or the type of the values of TIFFs that it does not show.
        bands: of each file, where they are to be chosen by number; else 1.
        deep: files of more than 8 bits a channel.
        turned: files whose EXIF says that they are to be turned.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    bands: Counter[int] = field(default_factory=Counter)
    deep: int = 0
    turned: int = 0

    @property
    def megapixels(self) -> float:
        """Of the largest."""
        return max((height * width / 1e6 for height, width in self.sizes), default=0.0)


def read_headers(paths: Sequence[Path]) -> Photographs:
    """Read the headers of image files; those that cannot be read are left out."""
    found = Photographs()
    for path in paths:
        is_tiff = path.suffix.lower() in ENDINGS
        try:
            with open_image(path) as image:
                if is_tiff and _is_of_bands(image):
                    raise UnidentifiedImageError
                found.sizes[image.height, image.width] += 1
                found.modes[image.mode] += 1
                found.bands[1] += 1
                found.deep += image.mode.startswith(("I", "F"))
                found.turned += image.getexif().get(ORIENTATION, 1) in range(2, 9)
        except UNREADABLE:
            shape = shape_of(path) if is_tiff else None
            if shape:
                height, width, bands, kind = shape
                found.sizes[height, width] += 1
                found.modes[f"{bands} bands of {kind}"] += 1
                found.bands[bands] += 1
                found.deep += kind != np.uint8
    return found


def _is_of_bands(image: Image.Image) -> bool:
    """Has a TIFF bands or bits that Pillow drops?"""
    tags = getattr(image, "tag_v2", {})
    extra = tags.get(EXTRA_SAMPLES, (0,))
    has_alpha = image.mode == "RGBA" and extra[-1] in ALPHA
    bits = tags.get(BITS, (8,))
    bits = bits if isinstance(bits, tuple) else (bits,)
    many = tags.get(SAMPLES, 1) > 3 and not has_alpha
    return many or (image.mode == "RGB" and max(bits) > 8)


def find_ranges(paths: Sequence[Path], by_band: bool) -> tuple[list[Range], tuple[float, float]]:
    """Ranges of values of images of more than 8 bits: nearly all of the sample's pixels.

    Args:
        paths: of some of the images.
        by_band: one range for each band; else one for all.

    Returns:
        The ranges, none if nothing can be read; and the least and greatest value that was seen.
    """
    seen: list[NDArray[np.float64]] = []
    for path in paths:
        values = _values(path)
        if values is not None:
            flat = values.reshape(-1, values.shape[-1] if by_band else 1)
            seen.append(flat[:: -(-len(flat) // MOST_PIXELS)].astype(np.float64))
    seen = [values for values in seen if values.shape[1] == seen[0].shape[1]]
    if not seen:
        return [], (0.0, 0.0)
    together = np.concatenate(seen)
    together = together[np.isfinite(together).all(axis=1)]
    if not len(together):
        return [], (0.0, 0.0)
    ranges = []
    for low, high in np.quantile(together, [BEYOND, 1 - BEYOND], axis=0).T.tolist():
        ranges.append(_rounded(0.0 if 0 <= low <= NEAR_ZERO * high else low, high))
    return ranges, (float(together.min()), float(together.max()))


def _values(path: Path) -> NDArray[Any] | None:
    """(H, W, bands) of an image of more than 8 bits; None if it cannot be read."""
    if path.suffix.lower() in ENDINGS:
        return bands_of(path)
    try:
        with open_image(path) as image:
            return np.asarray(image)[..., None] if image.mode.startswith(("I", "F")) else None
    except UNREADABLE:
        return None


def _rounded(low: float, high: float) -> Range:
    """A range that holds another, with ends of two or three digits."""
    length = high - low or abs(high) or 1.0
    step = 10.0 ** (floor(log10(length)) - 1)
    ends = (floor(low / step) * step, ceil(max(high, low + step) / step) * step)
    digits = max(0, -floor(log10(step)))
    return [round(end, digits or None) for end in ends]
