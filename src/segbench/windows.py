"""Windows: what large images are cut into before resizing, and how their logits are stitched."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segbench.errors import InputError
from segbench.images import IGNORE, Pixels, count_values, fit_image, resize_mask

if TYPE_CHECKING:  # a served model takes this module along without params
    from segbench.params.augment import Patches

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an image, in pixels of the image; `name` is empty for the whole image."""

    name: str
    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: Pixels) -> Pixels:
        """This part of an image (H, W, C) or a mask (H, W)."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]

    def resized(self, image: Pixels, height: int, width: int) -> Pixels:
        """This part of an image (H, W, C) or (H, W) as networks see it: (height, width, C)."""
        return fit_image(self.of(image), height, width).reshape(height, width, -1)


def tile_windows(width: int, height: int, patches: "Patches | None", id: str) -> list[Window]:
    """The fewest windows that cover an image with the given overlap, evenly spread.

    Args:
        width, height: of the image, in pixels.
        patches: size and overlap of windows; None: one window, the whole image.
        id: names the image in errors.

    Raises:
        InputError: if the image is smaller than a window.
    """
    if patches is None:
        return [Window("", 0, 0, height, width)]
    if height < patches.height or width < patches.width:
        raise InputError(
            f"{id}: {width}x{height} is smaller than a patch of {patches.width}x{patches.height}; "
            "lower augment.patches or remove the image"
        )
    tops, lefts = (
        np.linspace(0, size - patch, -(-(size - patches.overlap) // (patch - patches.overlap)))
        .round()
        .astype(int)
        .tolist()
        for size, patch in ((height, patches.height), (width, patches.width))
    )
    return [
        Window(f"_y{top}x{left}", top, left, patches.height, patches.width)
        for top in tops
        for left in lefts
    ]


def packed_place(window: Window, height: int, width: int) -> tuple[int, int]:
    """Top and left of a window in an image whose windows are resized to height and width."""
    down, right = height / window.height, width / window.width
    return round(window.top * down), round(window.left * right)


def blend(windows: Sequence[Logits], places: Sequence[tuple[int, int]]) -> Logits:
    """Stitch the logits of an image's windows.

    In overlaps, windows are averaged with weights that decrease towards their edges, where context
    is missing.

    Args:
        windows: logits (C, H, W) of each.
        places: top and left of each in the image, at the scale of the logits.

    Returns:
        (C, H', W') of the image.
    """
    return np.concatenate([*blend_bands(windows, places)], axis=1)


def blend_bands(windows: Iterable[Logits], places: Sequence[tuple[int, int]]) -> Iterator[Logits]:
    """The same in bands (C, some rows, W') from the top down, of which one is held at a time.

    Args:
        windows: as of `blend`, row by row from the top.
        places: likewise.
    """
    at = 0
    weight: Logits = np.zeros((0, 0), np.float32)
    total, weights = weight[None], weight
    for (top, left), window in zip(places, windows, strict=True):
        channels, height, width = window.shape
        if not weight.size:
            weight = np.outer(_from_edge(height), _from_edge(width))
            whole = max(left for _, left in places) + width
            total = np.zeros((channels, height, whole), np.float32)
            weights = np.zeros((height, whole), np.float32)
        if done := top - at:  # rows to which nothing is added any more
            yield total[:, :done] / weights[:done]
            total = np.concatenate([total[:, done:], np.zeros_like(total[:, :done])], axis=1)
            weights = np.concatenate([weights[done:], np.zeros_like(weights[:done])])
            at = top
        total[:, :, left : left + width] += weight * window
        weights[:, left : left + width] += weight
    yield total / weights


def _from_edge(size: int) -> Logits:
    """Distance of each pixel of a line from the nearer end, at least 1."""
    at = np.arange(1, size + 1, dtype=np.float32)
    return np.minimum(at, at[::-1])


def pixels_kept(
    mask: Pixels, windows: Sequence[Window], height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of each class of a mask, and how many of the packed ones stand for them.

    Args:
        mask: (H, W) class ids.
        windows: that it is cut into.
        height, width: that each is resized to.

    Returns:
        (256,) pixels in all windows, and (256,) pixels once they are resized.
    """
    before, after = np.zeros(IGNORE + 1, np.int64), np.zeros(IGNORE + 1, np.int64)
    for window in windows:
        part = window.of(mask)
        before += count_values(part)
        small = resize_mask(np.ascontiguousarray(part), height, width)
        after += count_values(small)
    return before, after
