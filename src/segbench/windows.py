"""Windows: what large images are cut into before resizing, and how their logits are stitched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segbench.errors import InputError
from segbench.images import IGNORE, Pixels, count_values, resize_mask

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
    channels, height, width = windows[0].shape
    size = (max(top for top, _ in places) + height, max(left for _, left in places) + width)
    weight = np.outer(_from_edge(height), _from_edge(width))
    total = np.zeros((channels, *size), np.float32)
    weights = np.zeros(size, np.float32)
    for (top, left), window in zip(places, windows, strict=True):
        place = (slice(top, top + height), slice(left, left + width))
        total[:, *place] += weight * window
        weights[place] += weight
    total /= weights
    return total


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
        down, right = window.top + window.height, window.left + window.width
        part = mask[window.top : down, window.left : right]
        before += count_values(part)
        small = resize_mask(np.ascontiguousarray(part), height, width)
        after += count_values(small)
    return before, after
