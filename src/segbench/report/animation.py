"""Animations of pictures, as GIF."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageColor

from segbench.images import Pixels
from segbench.report.drawing import image_grid

FRAME_MS, LAST_FRAME_MS = 250, 2000


def save_animation(
    path: Path,
    frames: Iterable[list[Pixels]],
    columns: list[str],
    labels: list[str],
    colours: Sequence[str],
) -> None:
    """Write a GIF: each frame is a row of pictures, as in `image_grid`; the last one stays.

    Args:
        path: of the file.
        frames: pictures (H, W, 3) of each frame.
        columns: a name for each picture of a frame.
        labels: a text for each frame.
        colours: `#rrggbb` that masks are drawn in. They are in the palette, which all frames share
            with the first, so that nothing flickers.
    """
    grids = (image_grid([row], columns, [label]) for row, label in zip(frames, labels, strict=True))
    first = next(grids)
    own = [level for colour in colours for level in ImageColor.getrgb(colour)[:3]]
    found = first.quantize(256 - len(colours)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette((own + found)[: 3 * 256])
    drawn = (grid.quantize(palette=palette, dither=Image.Dither.NONE) for grid in grids)
    times = [FRAME_MS] * (len(labels) - 1) + [LAST_FRAME_MS]
    start = first.quantize(palette=palette, dither=Image.Dither.NONE)
    start.save(path, save_all=True, append_images=drawn, duration=times, loop=0)
