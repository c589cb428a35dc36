"""Mask files: their values become class ids, or are refused by name."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.datasets.canonical import Palette
from segbench.datasets.image_files import open_file, read_bytes
from segbench.errors import InputError
from segbench.images import Pixels, count_values

# A binary mask has edges that a lossy format or a resizing made grey, not areas of grey.
GREY, MOST_GREY = range(32, 224), 0.2
# So few values of which so many pixels are small are class ids: a lossy format makes more values,
# and stray pixels are fewer.
FEW_VALUES, MOST_SMALL = 4, 0.01
# Of a mask, named in a message.
MOST_COLOURS = 8


@dataclass(frozen=True)
class MaskEncoding:
    """How the values of a mask's file become class ids.

    Attributes:
        table: (256,) class id of each grey value or palette index.
        known: values that may occur; others are an error.
        colours: class id by colour code (red << 16 | green << 8 | blue), or None for grey masks.
        threshold: from which a grey value is foreground; 0 where every value has its own meaning.
        alpha: the values are those of the alpha channel.
    """

    table: Pixels
    known: frozenset[int]
    colours: dict[int, int] | None = None
    threshold: int = 0
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class MaskPixels:
    """A mask file, read.

    Attributes:
        class_ids: (H, W) uint8.
        num_values: how many values the file holds.
        between: share of its pixels that hold neither the least nor the greatest of them.
        orientation: of its EXIF, 1 to 8.
        palette: of what it shows by palette index; of a grey file the value 0, which is black.
        contested: how many pixels several files give to different classes.
    """

    class_ids: Pixels
    num_values: int
    between: float
    orientation: int
    palette: Palette
    contested: int = 0


def by_threshold(threshold: int, invert: bool = False, alpha: bool = False) -> MaskEncoding:
    """Class 1 from `threshold` up, class 0 below; the other way round if inverted."""
    table = ((np.arange(256) >= threshold) != invert).astype(np.uint8)
    return MaskEncoding(table, frozenset(range(256)), threshold=threshold, alpha=alpha)


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
    path: Path,
    encoding: MaskEncoding,
    megapixels: float,
    page: int | None = None,
    turn: bool = True,
) -> MaskPixels:
    """Read a mask file. An alpha channel is ignored, unless it is the mask.

    Args:
        path: of the file.
        encoding: of its values.
        megapixels: the limit.
        page: of a file that holds several masks.
        turn: upright, as its EXIF says; else as stored.

    Raises:
        InputError: if it is unreadable, too large, of more than 8 bits, in colours where grey
            values are expected, or holds values that the encoding does not define.
    """
    opened = open_file(read_bytes(path), path, megapixels, page, turn)
    image = opened.image
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{path}: a mask of more than 8 bits (mode {image.mode}), the limit is 8; convert it, "
            "or use dataset.mask.instances if its values are numbers of objects"
        )
    alpha = _alpha(image, path) if encoding.alpha or _has_alpha(image) else None
    image.info.pop("transparency", None)  # of which Pillow warns when it drops it
    if encoding.colours is not None:
        pixels = np.asarray(image.convert("RGB"))
        _check_visible(image, pixels, alpha, path)
        return _decode_colours(pixels, encoding.colours, path, opened.orientation)
    if encoding.alpha:
        assert alpha is not None
        values, palette = alpha, None
    elif image.mode in ("P", "PA"):
        values, palette = _indices(image, encoding, path)
    else:
        values, palette = _grey_values(image, path), None
    if not encoding.alpha:
        _check_visible(image, values, alpha, path)
    counts = count_values(values)
    present = np.flatnonzero(counts)
    _check_values(present, counts, encoding, palette, path)
    between = 1 - float(counts[present[[0, -1]]].sum()) / values.size
    black = np.zeros((1, 3), np.uint8)
    shown = present if palette is not None else present[present == 0]
    codes = colour_codes(black if palette is None else palette[shown])
    return MaskPixels(
        class_ids=cv2.LUT(values, encoding.table),
        num_values=len(present),
        between=between if len(present) > 2 else 0.0,
        orientation=opened.orientation,
        palette=tuple(
            (int(index), int(code), int(encoding.table[index]))
            for index, code in zip(shown, codes, strict=False)
            if not encoding.threshold
        ),
    )


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _alpha(image: Image.Image, path: Path) -> Pixels:
    if not _has_alpha(image):
        raise InputError(
            f"{path}: has no alpha channel, which dataset.mask.alpha asks for; is the mask in its "
            "grey values? use dataset.mask.threshold"
        )
    return np.array(image.convert("RGBA").getchannel("A"))


def grey_or_colours(image: Image.Image) -> Pixels:
    """Pixels of a mask without palette: (H, W) grey values, or (H, W, 3) if some are in colour."""
    if image.mode in ("CMYK", "YCbCr"):
        image = image.convert("RGB")
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if values.ndim == 2:
        return values
    colours = values[..., : 1 if image.mode == "LA" else 3]
    grey = (colours == colours[..., :1]).all()
    return np.ascontiguousarray(colours[..., 0] if grey else colours)


def _grey_values(image: Image.Image, path: Path) -> Pixels:
    values = grey_or_colours(image)
    if values.ndim == 3:
        raise InputError(
            f"{path}: a mask in colours, but dataset.mask understands grey values or palette "
            "indices; convert it or use dataset.mask.colours"
        )
    return values


def _indices(
    image: Image.Image, encoding: MaskEncoding, path: Path
) -> tuple[Pixels, Pixels | None]:
    """The indices (H, W) of a palette image and the colours (256, 3) that they show.

    A threshold needs the grey values that they show, and there are no colours then.
    """
    levels = image.getpalette("RGB") or []
    palette = np.zeros((256, 3), np.uint8)
    palette.flat[: len(levels)] = levels
    pixels = np.asarray(image)
    indices = np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels[..., 0])
    if not encoding.threshold:
        return indices, palette
    used = palette[np.flatnonzero(count_values(indices))]
    if (used != used[:, :1]).any():
        raise InputError(
            f"{path}: its palette is in colours, {_list_colours(used)}, but a threshold needs grey "
            "values; use dataset.mask.colours, or dataset.mask.values for palette indices"
        )
    return cv2.LUT(indices, np.ascontiguousarray(palette[:, 0])), None


def _check_visible(image: Image.Image, shown: Pixels, alpha: Pixels | None, path: Path) -> None:
    """Raise InputError for a mask whose pixels all look alike, but are not."""
    if (alpha is None and image.mode != "P") or (shown != shown[:1, :1]).any():
        return
    if alpha is not None and alpha.min() != alpha.max():
        raise InputError(
            f"{path}: its pixels have one colour and differ in their transparency only; is that "
            "the mask? use dataset.mask.alpha"
        )
    if image.mode == "P":
        indices = np.asarray(image)
        if indices.min() != indices.max():
            raise InputError(
                f"{path}: its palette shows the indices {indices.min()} to {indices.max()} in one "
                "colour; is the palette damaged? use dataset.mask.values for palette indices"
            )


def colour_codes(colours: Pixels) -> NDArray[np.uint32]:
    """(..., 3) colours to (...) codes, red << 16 | green << 8 | blue."""
    codes: NDArray[np.uint32] = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], "u4")
    return codes


def _list_colours(colours: Pixels) -> str:
    codes = [f"#{code:06x}" for code in dict.fromkeys(colour_codes(colours).tolist())]
    return ", ".join(codes[:MOST_COLOURS]) + (" and more" if len(codes) > MOST_COLOURS else "")


def _check_values(
    present: NDArray[np.int64],
    counts: NDArray[np.int64],
    encoding: MaskEncoding,
    palette: Pixels | None,
    path: Path,
) -> None:
    """Raise InputError for a mask of another kind."""
    undefined = sorted(set(present.tolist()) - encoding.known)
    if undefined and palette is not None:
        raise InputError(
            f"{path}: the mask holds the palette indices {undefined[:8]}, but "
            f"{sorted(encoding.known)} are defined; use dataset.mask.colours, in it are "
            f"{_list_colours(palette[present])}"
        )
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
    pixels: Pixels, classes: dict[int, int], path: Path, orientation: int
) -> MaskPixels:
    known = np.array(sorted(classes), np.uint32)
    table = np.array([classes[code] for code in sorted(classes)], np.uint8)
    mask = np.empty(pixels.shape[:2], np.uint8)
    present: set[int] = set()
    for row, colours in enumerate(pixels):
        codes = colour_codes(colours)
        index = np.searchsorted(known, codes).clip(max=len(known) - 1)
        wrong = codes[known[index] != codes]
        if len(wrong):
            raise InputError(
                f"{path}: the mask holds the undefined colour #{wrong[0]:06x}, {len(classes)} are "
                "defined; define it in dataset.mask.colours"
            )
        mask[row] = table[index]
        present.update(np.unique(index).tolist())
    return MaskPixels(mask, len(present), 0.0, orientation, ())
