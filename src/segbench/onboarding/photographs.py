"""What image files are like: sizes, bits, bands, EXIF; by their headers and a few of them whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from pathlib import Path

import numpy as np
from PIL import Image

from segbench.datasets.image_files import ORIENTATION, SAMPLES, UNREADABLE
from segbench.images import open_image

# Of deep images, the share of the pixels that may lie beyond each end of the range, and pixels of
# each that are looked at.
BEYOND, MOST_PIXELS = 0.001, 40_000
# A range that begins so near to 0, as a share of its length, begins at 0.
NEAR_ZERO = 0.05
MOST_BANDS = 16


@dataclass
class Photographs:
    """What a sample of image files is like.

    Attributes:
        sizes: (height, width) of each, and how many have it.
        modes: Pillow's, and how many files have it.
        bands: of each file.
        turned: files whose EXIF says that they are to be turned.
        value_range: of more than 8 bits a channel: what becomes 0 and 255; None for 8 bits.
        least, greatest: values that were seen, of these.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    bands: Counter[int] = field(default_factory=Counter)
    turned: int = 0
    value_range: tuple[float, float] | None = None
    least: float = 0.0
    greatest: float = 0.0

    @property
    def count(self) -> int:
        """Files that were opened."""
        return sum(self.modes.values())

    @property
    def megapixels(self) -> float:
        """Of the largest."""
        return max((height * width / 1e6 for height, width in self.sizes), default=0.0)


def read_headers(paths: Sequence[Path]) -> Photographs:
    """Read the headers of image files; those that cannot be read are left out."""
    found = Photographs()
    for path in paths:
        try:
            with open_image(path) as image:
                found.sizes[image.height, image.width] += 1
                found.modes[image.mode] += 1
                tags = getattr(image, "tag_v2", {})
                found.bands[_number(tags.get(SAMPLES), len(image.getbands()))] += 1
                found.turned += image.getexif().get(ORIENTATION, 1) in range(2, 9)
        except UNREADABLE:
            continue
    return found


def _number(value: object, default: int) -> int:
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else default


def find_range(found: Photographs, paths: Sequence[Path]) -> None:
    """Find the range of values of images of more than 8 bits: nearly all of the sample's pixels.

    Args:
        found: gets the range.
        paths: of some of the images.
    """
    seen = []
    for path in paths:
        try:
            with open_image(path) as image:
                if image.mode.startswith(("I", "F")):
                    values = np.asarray(image, np.float64).ravel()
                    seen.append(values[:: -(-values.size // MOST_PIXELS)])
        except (*UNREADABLE, Image.DecompressionBombError):
            continue
    if not seen:
        return
    values = np.concatenate(seen)
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, high = np.quantile(values, [BEYOND, 1 - BEYOND])
    if low >= 0 and low <= NEAR_ZERO * high:
        low = 0.0
    found.least, found.greatest = float(values.min()), float(values.max())
    found.value_range = _rounded(float(low), float(high))


def _rounded(low: float, high: float) -> tuple[float, float]:
    """A range that holds another, with ends of two or three digits."""
    length = high - low or abs(high) or 1.0
    step = 10.0 ** (floor(log10(length)) - 1)
    ends = (floor(low / step) * step, ceil(max(high, low + step) / step) * step)
    digits = max(0, -floor(log10(step)))
    return round(ends[0], digits or None), round(ends[1], digits or None)
