"""Is a file an image or a mask? By its pixels: masks have few values, in even areas."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segbench.datasets.image_files import UNREADABLE
from segbench.images import open_image
from segbench.onboarding.tiffs import ENDINGS, bands_of

# Rows that are looked at, and pixels whose colours are told apart.
MOST_ROWS, MOST_SORTED = 256, 50_000
FEW_COLOURS = 16
MASK_FROM = 0.85
"""Likeness to a mask from which a file is taken for one, where nothing speaks against it."""
EVEN = 0.5
# An alpha channel that is a mask is mostly all or nothing, and not the same everywhere.
SEEN, MOST_PARTLY_SEEN = (0.001, 0.999), 0.2


@dataclass(frozen=True)
class Look:
    """A file, looked at.

    Attributes:
        even: share of its pixels that equal their right neighbour.
        colours: how many different ones it holds.
        alpha: it has an alpha channel that could be a mask.
    """

    even: float
    colours: int
    alpha: bool

    @property
    def likeness(self) -> float:
        """To a mask: 0 for noise, 1.5 for a few colours in even areas."""
        return self.even + (0.5 if self.colours <= FEW_COLOURS else 0)


def look_at(path: Path) -> Look | None:
    """Look at a file; None if it is unreadable, of which reading it will tell more."""
    try:
        with open_image(path) as image:
            alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            transparent = alpha and _is_mask(np.asarray(image.convert("RGBA").getchannel("A")))
            image.info.pop("transparency", None)
            shown: Image.Image = (
                image.convert("RGB") if image.mode in ("RGBA", "LA", "PA") else image
            )
            pixels = np.asarray(shown)
    except UNREADABLE:
        values = bands_of(path) if path.suffix.lower() in ENDINGS else None
        if values is None:
            return None
        transparent, pixels = False, values
    pixels = pixels[:: -(-pixels.shape[0] // MOST_ROWS)]
    if pixels.ndim == 3:
        codes = np.zeros(pixels.shape[:2], np.uint64)
        for band in range(min(pixels.shape[2], 3)):
            codes = (codes << np.uint64(8)) | pixels[..., band].astype(np.uint64)
        pixels = codes
    even = float((pixels[:, 1:] == pixels[:, :-1]).mean()) if pixels.shape[1] > 1 else 0.0
    some = pixels.ravel()[:: -(-pixels.size // MOST_SORTED)]
    return Look(even, len(np.unique(some)), transparent)


def _is_mask(alpha: np.ndarray) -> bool:
    seen = float((alpha >= 128).mean())
    partly = float(((alpha > 31) & (alpha < 224)).mean())
    return SEEN[0] < seen < SEEN[1] and partly < MOST_PARTLY_SEEN
