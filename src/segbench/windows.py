"""Windows: what large images are cut into before resizing, and what that leaves of masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.errors import InputError
from segbench.images import IGNORE, Pixels, count_values, resize_mask
from segbench.params.augment import Patches


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an image, in pixels of the image; `name` is empty for the whole image."""

    name: str
    top: int
    left: int
    height: int
    width: int


def tile_windows(width: int, height: int, patches: Patches | None, id: str) -> list[Window]:
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
