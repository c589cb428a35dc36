"""Images that are to be turned, and masks that may have been drawn on them as they are stored."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.images import Pixels, resize_image

# Longest side at which edges are compared.
EDGE_SIZE = 512
# Orientations that undo one another; any other undoes itself.
UNDOES = {6: 8, 8: 6}


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels, (H, W) or (H, W, C), turned upright, as Pillow's `exif_transpose` does.

    Args:
        pixels: as stored.
        orientation: of EXIF, 1 to 8.
    """
    if orientation in (2, 3, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7):
        pixels = pixels[::-1]
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    return np.rot90(pixels, {6: -1, 8: 1}.get(orientation, 0))


def read_otherwise(
    image: Pixels, mask: Pixels, orientations: tuple[int, int], turn: bool
) -> tuple[Pixels, Pixels] | None:
    """An image and its mask as they are stored, if they were turned, and turned if they were not.

    Args:
        image: (H, W, 3) or (H, W).
        mask: (H, W) class ids.
        orientations: of the EXIF of image and mask.
        turn: were both turned as these say?

    Returns:
        Both in the other reading; None where that is the same pair.
    """
    if orientations[0] == orientations[1]:
        return None
    steps = [UNDOES.get(one, one) if turn else one for one in orientations]
    return turned(image, steps[0]), turned(mask, steps[1])


def edge_strength(image: Pixels, mask: Pixels) -> float:
    """Mean gradient of an image on the outlines of its mask, in relation to that of all of it.

    Args:
        image: (H, W, 3) or (H, W).
        mask: (H, W) class ids.

    Returns:
        About 1 for a mask that has nothing to do with the image; 0 where either is even.
    """
    scale = min(1, EDGE_SIZE / max(mask.shape))
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    small = resize_image(np.ascontiguousarray(image), height, width, cv2.INTER_AREA)
    ids = cv2.resize(
        np.ascontiguousarray(mask), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    grey = small.astype(np.float32).reshape(height, width, -1).mean(axis=2)
    gradient: NDArray[np.float32] = np.hypot(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))
    outline = cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if not outline.any() or not gradient.any():
        return 0.0
    return float(gradient[outline].mean() / gradient.mean())
