"""Pictures of others: what they are by their content, and that they are not too large to decode."""

from pathlib import Path

from PIL import Image

from segbench.images import open_image

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".gif": "GIF", ".webp": "WEBP"}
"""By their endings. Not SVG, which a browser may run."""
MOST_PIXELS = 64_000_000
LARGEST = 64 << 20


def check_picture(path: Path) -> None:
    """Raise ValueError unless a file is a picture as its name says, and not too large.

    It is not decoded, but for a PNG's checksums.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    kind = FORMATS[path.suffix.lower()]
    try:
        with open_image(path, formats=[kind]) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"it has {width}x{height} pixels, the limit is {MOST_PIXELS}")
            picture.verify()
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as problem:
        raise ValueError(f"it is no {kind} picture ({problem})") from None
