"""Files that belong together, read: an image and its masks become a sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from segbench.datasets.bands import read_bands
from segbench.datasets.canonical import Sample, SampleReader
from segbench.datasets.exif import edge_strength, read_otherwise
from segbench.datasets.image_files import ImagePixels, read_image
from segbench.datasets.instances import Instances, read_instances
from segbench.datasets.mask_files import read_ignored, read_mask_files
from segbench.datasets.mask_values import MaskEncoding, MaskPixels, read_mask
from segbench.datasets.pairs import Pair
from segbench.errors import InputError
from segbench.images import IGNORE, Pixels
from segbench.params.datasets import Limits, ValueRange

# A mask whose size differs by more pixels was hardly resized or cropped by accident.
SMALL_DIFFERENCE = 8


@dataclass(frozen=True)
class Reading:
    """How the files of a dataset are read.

    Attributes:
        encoding: of the masks.
        limits: of the dataset.
        bands: which the images have, by their numbers in the files; None: grey or RGB.
        value_range: of images of more than 8 bits, the values that become 0 and 255.
        turn: images and masks upright, as the EXIF of each says; else as stored.
        invert_ignored: ignore masks are black where pixels count.
        class_ids: of which each image may have a mask file of its own; empty: files hold all.
        background: class id of what is no object; None: every class is one.
    """

    encoding: MaskEncoding | Instances
    limits: Limits
    bands: Sequence[int] | None = None
    value_range: ValueRange | None = None
    turn: bool = True
    invert_ignored: bool = False
    class_ids: Sequence[int] = ()
    background: int | None = 0


def read_pairs(pairs: list[Pair], reading: Reading) -> list[SampleReader]:
    """Readers of pairs of files, in the order of their ids.

    Args:
        pairs: where they lie.
        reading: how they are read.
    """
    ordered = sorted(pairs, key=lambda pair: pair.id)
    return [SampleReader(1, partial(_read_pair, pair, reading)) for pair in ordered]


def _read_pair(pair: Pair, reading: Reading) -> list[Sample]:
    if pair.problem:
        raise InputError(pair.problem)
    limits, turn = reading.limits, reading.turn
    image = _read_image(pair, reading)
    file = read_mask_files(pair.masks, partial(_read_mask, pair, reading))
    mask = file.class_ids
    (height, width), (mask_height, mask_width) = image.pixels.shape[:2], mask.shape
    off = _size_difference(image.pixels, mask)
    other = read_otherwise(image.pixels, mask, (image.orientation, file.orientation), turn)
    if other and _size_difference(*other) > limits.size_difference:
        other = None
    if 0 < off <= limits.size_difference:
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    elif off and other:
        raise InputError(
            f"{pair.image}: its mask is {mask_width}x{mask_height} but the image is "
            f"{width}x{height}, {'turned' if turn else 'not turned'} as EXIF says; sizes must "
            f"agree, set dataset.exif: {'ignore' if turn else 'turn'}"
        )
    elif off:
        raise InputError(
            f"{pair.image}: its mask is {mask_width}x{mask_height} but the image is "
            f"{width}x{height}; dataset.limits.size_difference allows {limits.size_difference} "
            f"pixels, fix the pair{' or raise it' if off <= SMALL_DIFFERENCE else ''}"
        )
    strength = edge_strength(image.pixels, mask) if other else 0.0
    orientation = image.orientation if image.orientation != 1 else file.orientation
    exif = f"{'turned' if turn else 'ignored'} {orientation}" if orientation != 1 else ""
    lost = 0
    if pair.ignore:
        mask, lost = _without_ignored(pair, mask, reading)
    return [
        Sample(
            id=pair.id,
            image=image.pixels,
            mask=mask,
            group=pair.group or pair.id,
            stratum=pair.stratum,
            source=str(pair.image),
            split=pair.split,
            previous=pair.previous,
            encoded=image.encoded,
            mask_values=file.num_values,
            mask_between=file.between,
            mask_resized=off > 0,
            palette=file.palette,
            exif=exif,
            exif_other=edge_strength(*other) / strength if other and strength else 0.0,
            clipped=image.clipped,
            # Where a mask is in the image's own file, that is its alpha channel.
            transparent=image.transparent if pair.masks[0].path != pair.image else 0.0,
            contested=file.contested,
            ignored_foreground=lost,
            spacing=pair.spacing,
            without_file=tuple(set(reading.class_ids) - {one.class_id for one in pair.masks}),
        )
    ]


def _read_image(pair: Pair, reading: Reading) -> ImagePixels:
    how = (reading.limits.megapixels, reading.bands, reading.value_range, reading.turn)
    return read_any_image(pair.image, *how, pair.page)


def read_any_image(
    path: Path,
    megapixels: float,
    bands: Sequence[int] | None,
    value_range: ValueRange | None,
    turn: bool,
    page: int | None = None,
) -> ImagePixels:
    """Read an image as a dataset says, see `Reading`; InputError if it cannot be used."""
    if bands:
        return read_bands(path, bands, megapixels, value_range, turn)
    return read_image(path, megapixels, value_range, page, turn)


def _read_mask(pair: Pair, reading: Reading, path: Path) -> MaskPixels:
    encoding, megapixels, turn = reading.encoding, reading.limits.megapixels, reading.turn
    if isinstance(encoding, Instances):
        return read_instances(path, encoding, pair.key, megapixels, turn)
    return read_mask(path, encoding, megapixels, pair.page, turn)


def _without_ignored(pair: Pair, mask: Pixels, reading: Reading) -> tuple[Pixels, int]:
    """A mask with what its ignore mask marks, and how many pixels of foreground that takes."""
    assert pair.ignore is not None
    limits = reading.limits
    ignored = read_ignored(pair.ignore, reading.invert_ignored, limits.megapixels, reading.turn)
    (height, width), size = mask.shape, ignored.shape
    off = max(abs(height - size[0]), abs(width - size[1]))
    if off > limits.size_difference:
        raise InputError(
            f"{pair.ignore}: is {size[1]}x{size[0]} but its image is {width}x{height}; "
            f"dataset.limits.size_difference allows {limits.size_difference} pixels, fix the file"
        )
    if off:
        nearest = cv2.INTER_NEAREST_EXACT
        ignored = cv2.resize(ignored.view(np.uint8), (width, height), interpolation=nearest) > 0
    lost = int(np.count_nonzero(ignored & (mask != IGNORE) & (mask != reading.background)))
    return np.where(ignored, np.uint8(IGNORE), mask), lost


def _size_difference(image: Pixels, mask: Pixels) -> int:
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    return max(abs(height - mask_height), abs(width - mask_width))
