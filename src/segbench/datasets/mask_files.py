"""The mask files of one image, made into one mask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from segbench.datasets.mask_values import MaskPixels
from segbench.errors import InputError
from segbench.images import IGNORE, Pixels


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
