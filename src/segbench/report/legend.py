"""A legend below a picture: the names of the classes in it, beside their colours."""

from collections.abc import Sequence

from PIL import Image, ImageColor, ImageDraw, ImageFont

from segbench.images import Pixels

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def with_legend(picture: Pixels, entries: Sequence[tuple[str, str]], note: str) -> Image.Image:
    """A picture with a legend below it, in as many lines as that takes.

    Args:
        picture: (H, W, 3) uint8.
        entries: names of classes, and their colours `#rrggbb`.
        note: how the picture is read, the last line.
    """
    height, width = picture.shape[:2]
    step = max(18, width // 14)  # legible where the whole is shown small
    inset = step // 8
    font = ImageFont.load_default(0.75 * step)
    places, x, y = [], 0, 0
    for name, colour in entries:
        shown = _fit(name, width - 2 * step, font)
        needed = 1.4 * step + font.getlength(shown)
        if x and x + needed > width:
            x, y = 0, y + step
        places.append((x, height + y, shown, colour))
        x += round(needed + 0.6 * step)
    bottom = height + (y + step if entries else 0)
    page = Image.new("RGB", (width, bottom + step + inset), "white")  # letters reach below a line
    page.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(page)
    for left, top, shown, colour in places:
        square = (left + inset, top + inset, left + step - inset, top + step - inset)
        draw.rectangle(square, ImageColor.getrgb(colour), "black")
        draw.text((left + 1.2 * step, top + inset), shown, "black", font)
    draw.text((inset, bottom + inset), _fit(note, width, font), (90, 90, 90), font)
    return page


def _fit(text: str, width: float, font: Font) -> str:
    """Shorten a text to a width in pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text
