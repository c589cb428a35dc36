"""The mask files of one image, made into one mask, and the file of what is ignored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.datasets.image_files import open_file, read_bytes
from segbench.datasets.mask_values import MaskPixels
from segbench.errors import InputError
from segbench.images import IGNORE, Pixels

# From which an ignore mask is white.
MIDDLE = 128


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask file: of all classes, or of the one whose pixels are its foreground."""

    path: Path
    class_id: int | None = None


def read_mask_files(files: Sequence[MaskFile], read: Callable[[Path], MaskPixels]) -> MaskPixels:
    """Read the mask files of an image.

    Where files give a pixel to several classes, the last of these in `dataset.classes` has it. A
    pixel is ignored if a file says so and no other gives it to a class.

    Args:
        files: of the image, at least one.
        read: reads one of them.

    Raises:
        InputError: if one is unusable, or of another size than the first.
    """
    first, *others = files
    mask = _of_class(read(first.path), first)
    if not others:
        return mask
    merged = np.where(mask.class_ids == IGNORE, np.uint8(0), mask.class_ids)
    ignored = mask.class_ids == IGNORE
    contested = np.zeros(merged.shape, bool)
    num_values, between, palette = mask.num_values, mask.between, mask.palette
    for file in others:
        part = _of_class(read(file.path), file)
        ids = part.class_ids
        if ids.shape != merged.shape:
            raise InputError(
                f"{file.path}: is {ids.shape[1]}x{ids.shape[0]} but {first.path.name}, a mask of "
                f"the same image, is {merged.shape[1]}x{merged.shape[0]}; masks of one image must "
                "have one size"
            )
        ignored |= ids == IGNORE
        found = np.where(ids == IGNORE, np.uint8(0), ids)
        contested |= (merged > 0) & (found > 0) & (merged != found)
        np.maximum(merged, found, out=merged)
        num_values, between = max(num_values, part.num_values), max(between, part.between)
        palette += part.palette
    merged[ignored & (merged == 0)] = IGNORE
    return replace(
        mask,
        class_ids=merged,
        num_values=num_values,
        between=between,
        palette=palette,
        contested=int(np.count_nonzero(contested)),
    )


def _of_class(mask: MaskPixels, file: MaskFile) -> MaskPixels:
    """A mask whose foreground is the class of its file."""
    if file.class_id is None or file.class_id == 1:
        return mask
    table = np.arange(256, dtype=np.uint8)
    table[1] = file.class_id
    ids: Pixels = cv2.LUT(mask.class_ids, table)
    return replace(mask, class_ids=ids)


def read_ignored(path: Path, invert: bool, megapixels: float, turn: bool) -> NDArray[np.bool_]:
    """Read a file that is white where pixels count and black where they are ignored.

    Args:
        path: of the file.
        invert: it is the other way round.
        megapixels: the limit.
        turn: upright, as its EXIF says; else as stored.

    Returns:
        (H, W), True where pixels are ignored.

    Raises:
        InputError: if it is unreadable, too large, of more than 8 bits, or dark everywhere without
            being black.
    """
    image = open_file(read_bytes(path), path, megapixels, None, turn).image
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{path}: an ignore mask of more than 8 bits (mode {image.mode}), the limit is 8; save "
            "it as black and white"
        )
    image.info.pop("transparency", None)  # of which Pillow warns when it drops it
    values = np.asarray(image.convert("L"))
    if 0 < values.max() < MIDDLE:
        raise InputError(
            f"{path}: an ignore mask of values up to {values.max()}, all below {MIDDLE}, which "
            "count as black; save it with 255 as white"
        )
    ignored: NDArray[np.bool_] = (values < MIDDLE) != invert
    return ignored
