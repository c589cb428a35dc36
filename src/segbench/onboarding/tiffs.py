"""TIFFs of bands or bits that Pillow does not show: what they hold."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.datasets.image_files import UNREADABLE

ENDINGS = (".tif", ".tiff")


def shape_of(path: Path) -> tuple[int, int, int, np.dtype[Any]] | None:
    """Height, width, bands and type of the values of a TIFF; None if it is no single image."""
    import tifffile  # here, as most datasets need none

    logging.getLogger("tifffile").disabled = True  # what is wrong is said where it is read
    try:
        with tifffile.TiffFile(path) as file:
            if len(file.series) != 1:
                return None
            whole = file.series[0]
            sizes = dict(zip(whole.axes, whole.shape, strict=True))
            height, width = sizes.pop("Y"), sizes.pop("X")
            if len(sizes) > 1:
                return None
            return height, width, next(iter(sizes.values()), 1), np.dtype(whole.dtype)
    except (*UNREADABLE, tifffile.TiffFileError):
        return None


def bands_of(path: Path) -> NDArray[Any] | None:
    """(H, W, bands) of a TIFF; None if it cannot be read as one image."""
    import tifffile

    shape = shape_of(path)
    if shape is None:
        return None
    try:
        values = np.asarray(tifffile.imread(path))
    except (*UNREADABLE, tifffile.TiffFileError):
        return None
    if values.ndim == 2:
        return values[..., None]
    return values if values.shape[:2] == shape[:2] else np.moveaxis(values, 0, -1)
