"""What is answered of an image: its mask as PNG or run lengths, or probabilities."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from segbench.exports.masks import enlarge
from segbench.images import Pixels
from segbench.serving.predictor import Predicted

FORMS = ("png", "rle", "probs")
"""`png`: the mask as the dataset stores its own. `rle`: run lengths of each class, as in COCO.
`probs`: a grey PNG of each class, floor(256 p)."""


def answer(form: str, predicted: Predicted, data: dict[str, Any]) -> dict[str, Any]:
    """The answer for an image, at its own size.

    Args:
        form: one of `FORMS`.
        predicted: what the network says of it.
        data: how masks are stored, see `bundle`: `values`, `palette` and `alpha`.

    Returns:
        JSON: `height`, `width`, and by the name of the form base64 of a PNG, or of each class by
        its name run lengths or base64 of a PNG.
    """
    height, width = predicted.mask.shape
    wanted: Any
    if form == "png":
        wanted = _text(_stored(predicted.mask, data))
    elif form == "rle":
        wanted = {
            name: {"size": [height, width], "counts": run_lengths(predicted.mask == class_id)}
            for class_id, name in enumerate(predicted.classes)
            if class_id != predicted.background
        }
    else:
        wanted = {
            name: _text(Image.fromarray(enlarge(plane, height, width).astype(np.uint8)))
            for name, plane in _planes(predicted)
        }
    return {"height": height, "width": width, form: wanted}


def run_lengths(marked: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask (H, W) down its columns, one after another, as COCO counts
    them: unmarked and marked in turn, unmarked first."""
    flat = marked.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    ends = [*changes.tolist(), flat.size]
    starts = [0, *ends[:-1]]
    runs = [end - start for start, end in zip(starts, ends, strict=True)]
    return [0, *runs] if flat[0] else runs


def _planes(predicted: Predicted) -> list[tuple[str, Pixels]]:
    """Name and probabilities of each class; of one against the background, of that one."""
    if len(predicted.probs_u8) > 1:
        return [*zip(predicted.classes, predicted.probs_u8, strict=True)]
    own = [name for at, name in enumerate(predicted.classes) if at != predicted.background]
    return [(own[0], predicted.probs_u8[0])]


def _stored(mask: Pixels, data: dict[str, Any]) -> Image.Image:
    """A mask of class ids in the dataset's own encoding."""
    table = np.zeros(256, np.uint8)
    table[: len(data["values"])] = data["values"]
    values = table[mask]
    if data["alpha"]:
        return Image.fromarray(np.stack([values, values], axis=2), "LA")
    image = Image.fromarray(values)
    if data["palette"] is not None:
        image.putpalette([part for colour in data["palette"] for part in colour])
    return image


def _text(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
