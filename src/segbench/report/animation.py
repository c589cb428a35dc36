"""Animations of pictures, as GIF."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageColor

from segbench.images import Pixels
from segbench.report.drawing import make_sheet

FRAME_MS, LAST_FRAME_MS = 250, 2000


def save_animation(
    path: Path,
    frames: Iterable[list[Pixels]],
    columns: list[str],
    labels: list[str],
    colours: Sequence[str],
) -> None:
    """Write a GIF: each frame is a row of pictures, as in `make_sheet`; the last one stays.

    All frames share the palette of the first, and `colours` are in it, so that nothing flickers.
    """
    sheets = (
        make_sheet([row], columns, [label]) for row, label in zip(frames, labels, strict=True)
    )
    first = next(sheets)
    own = [level for colour in colours for level in ImageColor.getrgb(colour)[:3]]
    found = first.quantize(256 - len(colours)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette((own + found)[: 3 * 256])
    drawn = (sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets)
    times = [FRAME_MS] * (len(labels) - 1) + [LAST_FRAME_MS]
    start = first.quantize(palette=palette, dither=Image.Dither.NONE)
    start.save(path, save_all=True, append_images=drawn, duration=times, loop=0)
