"""Drawing: outlines over images, masks in colours, and grids of pictures."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from segbench.images import IGNORE, Pixels, as_rgb, resize_image
from segbench.labels import LabelScheme

# Distinct to colour-blind readers, and visible on tissue, aerial and grey images.
TRUTH_COLOUR = (86, 222, 120)
PRED_COLOUR = (255, 235, 60)
BACKGROUND_COLOUR, IGNORED_COLOUR = "#000000", "#808080"
CLASS_COLOURS = (
    *("#56de78", "#e69f00", "#56b4e9", "#cc79a7", "#d55e00", "#f0e442", "#0000ff", "#332288"),
    *("#6677ff", "#443300", "#223355", "#aa6644", "#4466aa", "#3311bb", "#553333", "#66ddaa"),
    *("#ccddff", "#99ff77", "#0055ff", "#555566", "#7799ff", "#994400", "#55aa77", "#4455bb"),
    *("#ffeeaa", "#ff8855", "#66ddcc", "#775544", "#333377", "#44bbcc", "#006688", "#4444cc"),
)
"""Of classes in their order, where a dataset names none. Six after Okabe and Ito 2008 ("Color
universal design"), continued by the rule of Glasbey et al. 2007 ("Colour displays for categorical
images", Color Research and Application 32): each is the one farthest from all before it, from
black, grey and white, in CIELAB, as seen by whoever sees them as most alike, of readers with normal
sight, full deuteranopia and full protanopia (Machado, Oliveira and Fernandes 2009)."""
DARKER = 0.7
"""Of more classes than that: the same colours again, each time by so much darker."""
SHOWN_SIZE = 512
"""Maximum length of a picture's longer side, in pixels."""
GAP = 4

LABEL_HEIGHT = 16


def outline(
    image: Pixels,
    truth: Pixels | None = None,
    pred: Pixels | None = None,
    min_size: int = 160,
    colours: Sequence[str] = (),
    *,
    background: int | None,
) -> Pixels:
    """Draw the outlines of classes over an image: truth green, prediction yellow.

    Args:
        image: (H, W, C) uint8, shown as `as_rgb` says.
        truth: (H, W) class ids, or None.
        pred: (H, W) class ids, or None.
        min_size: smaller pictures are enlarged by a whole factor, so that outlines stay thin.
        colours: `#rrggbb` of the truth's classes by id, in place of green.
        background: class id that gets no outline; None: there is none.

    Returns:
        (kH, kW, 3) uint8.
    """
    factor = max(1, -(-min_size // min(image.shape[:2])))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    canvas = cv2.resize(as_rgb(image), size, interpolation=cv2.INTER_CUBIC)
    for mask, colour in ((truth, TRUTH_COLOUR), (pred, PRED_COLOUR)):
        if mask is None:
            continue
        large = cv2.resize(np.asarray(mask), size, interpolation=cv2.INTER_NEAREST_EXACT)
        for class_id in np.unique(large):
            if class_id in (background, IGNORE):
                continue
            if colours and mask is truth:
                colour = ImageColor.getrgb(colours[class_id])[:3]
            area = (large == class_id).astype(np.uint8)
            edges, _ = cv2.findContours(area, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, edges, -1, colour, min(factor, 2))
    return canvas


def shrink(image: Pixels, *masks: Pixels, most: int = SHOWN_SIZE) -> list[Pixels]:
    """An image (H, W, C) and its masks (H, W), made smaller if the longer side exceeds `most`."""
    factor = most / max(image.shape[:2])
    if factor >= 1:
        return [image, *masks]
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    small = resize_image(np.ascontiguousarray(image), size[1], size[0], cv2.INTER_AREA)
    return [
        small.reshape(size[1], size[0], -1),
        *(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks),
    ]


def colourise(mask: Pixels, colours: Sequence[str]) -> Pixels:
    """A mask (H, W) of class ids as a picture (H, W, 3); ignored pixels are grey."""
    table = np.full((256, 3), ImageColor.getrgb(IGNORED_COLOUR), np.uint8)
    for class_id, colour in enumerate(colours):
        table[class_id] = ImageColor.getrgb(colour)[:3]
    return table[mask]


def image_grid(rows: list[list[Pixels]], columns: list[str], labels: list[str]) -> Image.Image:
    """Lay pictures out in a grid, with a name above each column and row.

    Args:
        rows: pictures, (H, W, 3) uint8, as many in each row as there are columns.
        columns: names of the columns.
        labels: a text for each row.
    """
    height, width = (max(picture.shape[axis] for row in rows for picture in row) for axis in (0, 1))
    step_x, step_y = width + GAP, height + LABEL_HEIGHT + GAP
    size = (len(columns) * step_x + GAP, len(rows) * step_y + LABEL_HEIGHT + GAP)
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(12)
    for column, name in enumerate(columns):
        draw.text((GAP + column * step_x, 1), _fit(name, width, font), "black", font)
    for row, pictures in enumerate(rows):
        top = LABEL_HEIGHT + row * step_y
        draw.text((GAP, top + 1), _fit(labels[row], size[0], font), (90, 90, 90), font)
        for column, picture in enumerate(pictures):
            place = (GAP + column * step_x, top + LABEL_HEIGHT)
            grid.paste(Image.fromarray(picture), place)
    return grid


def _fit(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a text to a width in pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text


def save_image_grid(
    path: Path, rows: list[list[Pixels]], columns: list[str], labels: list[str]
) -> None:
    """Write `image_grid` to a PNG file.

    Args:
        path: of the file.
        rows: see `image_grid`.
        columns: likewise.
        labels: likewise.
    """
    # Level 4 makes files as small as the usual 6, in less than half the time.
    image_grid(rows, columns, labels).save(path, compress_level=4)


def class_colours(colours: Sequence[str], scheme: LabelScheme) -> list[str]:
    """A colour `#rrggbb` for each class by id: the dataset's own, or of the default palette.

    Args:
        colours: by class id; empty where the dataset names none.
        scheme: of the classes.
    """
    if colours:
        return list(colours)
    found = dict(zip(scheme.scored, map(_palette_colour, range(scheme.num_classes)), strict=False))
    return [found.get(at, BACKGROUND_COLOUR) for at in range(scheme.num_classes)]


def _palette_colour(number: int) -> str:
    again, at = divmod(number, len(CLASS_COLOURS))
    levels = ImageColor.getrgb(CLASS_COLOURS[at])[:3]
    return "#" + "".join(f"{round(level * DARKER**again):02x}" for level in levels)
