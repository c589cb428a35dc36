"""Masks laid over their image: classes in their colours, errors hatched."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import ImageColor

from segbench.images import IGNORE, Pixels, as_rgb, count_values

OPACITY = 0.45
"""Of the colour of a class, so that the image shows through."""
STRIPE = 3
"""Width of the stripes that mark errors, in pixels: black and white, told from any colour."""


def overlay(
    image: Pixels,
    mask: Pixels,
    colours: Sequence[str],
    background: int | None,
    truth: Pixels | None = None,
    min_size: int = 160,
) -> Pixels:
    """Fill the classes of a mask over an image, outline them, and hatch what is wrong.

    Args:
        image: (H, W, C) uint8, shown as `as_rgb` says.
        mask: (H, W) class ids, 255 where ignored, which is grey.
        colours: `#rrggbb` by class id.
        background: class id that is not filled; None: there is none.
        truth: (H, W) class ids; pixels in which the mask differs from it are hatched, but for
            ignored ones.
        min_size: smaller pictures are enlarged by a whole factor, so that outlines stay thin.

    Returns:
        (kH, kW, 3) uint8.
    """
    factor = max(1, -(-min_size // min(image.shape[:2])))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    canvas = cv2.resize(as_rgb(image), size, interpolation=cv2.INTER_CUBIC)
    large = _enlarge(mask, size)
    table = np.full((256, 3), 128, np.uint8)
    for class_id, colour in enumerate(colours):
        table[class_id] = ImageColor.getrgb(colour)[:3]
    filled = cv2.addWeighted(canvas, 1 - OPACITY, table[large], OPACITY, 0)
    shown = np.ones_like(large) if background is None else (large != background).view(np.uint8)
    canvas = cv2.copyTo(filled, shown, canvas)
    for class_id in np.flatnonzero(count_values(large)).tolist():
        if class_id in (background, IGNORE):
            continue
        area = (large == class_id).astype(np.uint8)
        edges, _ = cv2.findContours(area, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, edges, -1, table[class_id].tolist(), min(factor, 2))
    if truth is not None:
        true = _enlarge(truth, size)
        rows, columns = np.indices(true.shape)
        stripes = (rows + columns) // STRIPE % 4
        wrong = (large != true) & (true != IGNORE)
        canvas[wrong & (stripes == 0)] = 0
        canvas[wrong & (stripes == 1)] = 255
    return canvas


def _enlarge(mask: Pixels, size: tuple[int, int]) -> Pixels:
    found: Pixels = cv2.resize(np.asarray(mask), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return found
