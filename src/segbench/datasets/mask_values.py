"""Mask files: their values become class ids, or are refused by name."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.datasets.image_files import open_upright, read_bytes
from segbench.errors import InputError
from segbench.images import Pixels

# A binary mask has edges that a lossy format or a resizing made grey, not areas of grey.
GREY, MOST_GREY = range(32, 224), 0.2
# So few values of which so many pixels are small are class ids: a lossy format makes more values,
# and stray pixels are fewer.
FEW_VALUES, MOST_SMALL = 4, 0.01


@dataclass(frozen=True)
class MaskEncoding:
    """How the values of a mask's file become class ids.

    Attributes:
        table: (256,) class id of each grey value or palette index.
        known: values that may occur; others are an error.
        colours: class id by colour code (red << 16 | green << 8 | blue), or None for grey masks.
        threshold: from which a grey value is foreground; 0 where every value has its own meaning.
    """

    table: Pixels
    known: frozenset[int]
    colours: dict[int, int] | None = None
    threshold: int = 0


def by_threshold(threshold: int, invert: bool = False) -> MaskEncoding:
    """Class 1 from `threshold` up, class 0 below; the other way round if inverted."""
    table = (np.arange(256) >= threshold) != invert
    return MaskEncoding(table.astype(np.uint8), frozenset(range(256)), threshold=threshold)


def by_values(classes: dict[int, int]) -> MaskEncoding:
    """A class id for each grey value or palette index."""
    table = np.zeros(256, np.uint8)
    table[list(classes)] = list(classes.values())
    return MaskEncoding(table, frozenset(classes))


def by_colours(classes: dict[str, int]) -> MaskEncoding:
    """A class id for each colour, `#rrggbb`."""
    codes = {int(colour[1:], 16): class_id for colour, class_id in classes.items()}
    return MaskEncoding(np.arange(256, dtype=np.uint8), frozenset(range(256)), codes)


def read_mask(
    path: Path, encoding: MaskEncoding, megapixels: float, page: int = 0
) -> tuple[Pixels, int, float]:
    """Read a mask file upright; an alpha channel is ignored.

    Args:
        path: of the file.
        encoding: of its values.
        megapixels: the limit.
        page: of a file that holds several masks.

    Returns:
        (H, W) uint8 class ids; how many values the file holds; the share of its pixels that hold
        neither the least nor the greatest of them.

    Raises:
        InputError: if it is unreadable, too large, of more than 8 bits, in colours where grey
            values are expected, or holds values that the encoding does not define.
    """
    image, _ = open_upright(read_bytes(path), path, megapixels, page)
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{path}: a mask of more than 8 bits (mode {image.mode}), the limit is 8; convert it"
        )
    if encoding.colours is not None:
        return _decode_colours(np.asarray(image.convert("RGB")), encoding.colours, path)
    if image.mode in ("CMYK", "YCbCr"):
        image = image.convert("RGB")
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if values.ndim == 3:
        colours = values[..., : 1 if image.mode in ("LA", "PA") else 3]
        if (colours != colours[..., :1]).any():
            raise InputError(
                f"{path}: a mask in colours, but dataset.mask understands grey values or palette "
                "indices; convert it or use dataset.mask.colours"
            )
        values = np.ascontiguousarray(colours[..., 0])
    counts = count_values(values)
    present = np.flatnonzero(counts)
    _check_values(present, counts, encoding, path)
    between = 1 - float(counts[present[[0, -1]]].sum()) / values.size
    return cv2.LUT(values, encoding.table), len(present), between if len(present) > 2 else 0.0


def count_values(values: Pixels) -> NDArray[np.int64]:
    """(256,): how many pixels hold each value. Masks seldom hold more than two or three."""
    counts = np.zeros(256, np.int64)
    for value in (int(values.min()), int(values.max()), 1):
        counts[value] = np.count_nonzero(values == value)
    if counts.sum() < values.size:
        counts[:] = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel()
    return counts


def _check_values(
    present: NDArray[np.int64], counts: NDArray[np.int64], encoding: MaskEncoding, path: Path
) -> None:
    """Raise InputError for a mask of another kind."""
    undefined = sorted(set(present.tolist()) - encoding.known)
    if undefined:
        raise InputError(
            f"{path}: the mask holds the values {undefined[:8]}, but {sorted(encoding.known)} are "
            "defined; is it a mask of another dataset? define them in dataset.mask.values or use "
            "dataset.mask.threshold"
        )
    if not encoding.threshold:
        return
    if 0 < present[-1] < encoding.threshold:
        raise InputError(
            f"{path}: the mask holds values up to {present[-1]} only, all below the threshold "
            f"{encoding.threshold}; are they class ids? use dataset.mask.values"
        )
    small = float(counts[1 : GREY.start].sum() / counts.sum())
    if len(present) <= FEW_VALUES and small > MOST_SMALL:
        raise InputError(
            f"{path}: the mask holds the values {present.tolist()}, of which a threshold of "
            f"{encoding.threshold} makes two classes; are they class ids? use dataset.mask.values"
        )
    grey = float(counts[GREY.start : GREY.stop].sum() / counts.sum())
    if grey > MOST_GREY:
        raise InputError(
            f"{path}: {100 * grey:.0f} % of the mask's pixels are neither dark nor bright, at most "
            f"{100 * MOST_GREY:.0f} % are taken for edges; is it a photograph, or class ids?"
        )


def _decode_colours(
    pixels: Pixels, classes: dict[int, int], path: Path
) -> tuple[Pixels, int, float]:
    known = np.array(sorted(classes), np.uint32)
    table = np.array([classes[code] for code in sorted(classes)], np.uint8)
    mask = np.empty(pixels.shape[:2], np.uint8)
    present: set[int] = set()
    for row, colours in enumerate(pixels):
        codes = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        index = np.searchsorted(known, codes).clip(max=len(known) - 1)
        wrong = codes[known[index] != codes]
        if len(wrong):
            raise InputError(
                f"{path}: the mask holds the undefined colour #{wrong[0]:06x}, {len(classes)} are "
                "defined; define it in dataset.mask.colours"
            )
        mask[row] = table[index]
        present.update(np.unique(index).tolist())
    return mask, len(present), 0.0
