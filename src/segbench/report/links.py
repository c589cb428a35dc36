"""How a page shows a picture: embedded, linked, or not at all."""

import base64
import os
from pathlib import Path
from urllib.parse import quote

from PIL import Image


def picture_mode(asked: str, redistributable: bool) -> str:
    """embed, link or none; what `auto` comes to depends on the dataset's licence."""
    if asked != "auto":
        return asked
    return "embed" if redistributable else "link"


def picture_source(path: Path, mode: str, folder: Path) -> str:
    """The src of a JPEG file in a page: its content, or the way to it.

    Args:
        path: of the file.
        mode: `embed` or `link`, see `picture_mode`.
        folder: of the page.
    """
    if mode == "embed":
        return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return link_to(path, folder)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture in pixels, so that a page keeps room for it."""
    with Image.open(path) as picture:
        return picture.size


def link_to(path: Path, folder: Path) -> str:
    """The address of a file as a page in `folder` names it."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())
