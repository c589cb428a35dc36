"""How a dataset's images are read and its masks are stored, as the record of a training says."""

import io
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from PIL import Image
from pydantic import Field, TypeAdapter

from segbench.datasets.download import source_of
from segbench.datasets.mask_values import MaskEncoding
from segbench.datasets.reading import read_any_image
from segbench.errors import InputError
from segbench.exports.description import PALETTE, PREFIX, Facts
from segbench.exports.description import data_facts as data_facts
from segbench.images import Pixels, encode_mask
from segbench.params.datasets import (
    Byte,
    Dataset,
    Folder,
    SyntheticPolyps,
    ValueRange,
    marks_objects,
)

TEXT = ("name", "exif", "task", "border", "masks")
"""Keys whose value is text; others are JSON."""
DROPPED = ("group", "stratum", "split", "ignore", "spacing", "foreground")
"""Sections that neither images nor masks are read by."""
MOST_CHARACTERS = 30_000
"""Of the facts of a dataset together."""
PLAIN_MEGAPIXELS = 100.0
"""Limit of the images of a model that says nothing of its data."""
Shown = list[tuple[Byte, Annotated[int, Field(ge=0, le=0xFFFFFF)], Byte]]
"""Index, colour (red << 16 | green << 8 | blue) and class id of what masks' files show, see
`datasets.canonical.Palette`."""


@dataclass(frozen=True)
class DataFormat:
    """How images are read, and masks are written so that they read as those of a dataset.

    Attributes:
        megapixels: of an image, at most.
        bands, value_range, turn: see `datasets.reading.Reading`.
        values: (num_classes,) what stands in a mask's file for each class id.
        palette: (256, 3) colours of these values; None: they are shades of grey.
        alpha: the values are in the alpha channel.
    """

    megapixels: float
    bands: Sequence[int] | None
    value_range: ValueRange | None
    turn: bool
    values: Pixels
    palette: Pixels | None = None
    alpha: bool = False

    @classmethod
    def of(cls, facts: Facts, num_classes: int) -> "DataFormat":
        """The format of a dataset.

        Args:
            facts: of `data_facts`; empty: images of 8 bits, and masks of class ids.
            num_classes: of the network.

        Raises:
            InputError: for facts that describe no dataset.
        """
        ids = np.arange(num_classes, dtype=np.uint8)
        if not facts:
            return cls(PLAIN_MEGAPIXELS, None, None, True, ids)
        if sum(len(key) + len(text) for key, text in facts.items()) > MOST_CHARACTERS:
            raise InputError(
                f"the model says more of its data than {MOST_CHARACTERS} characters; take a model "
                "that 'segbench deliver' wrote"
            )
        section, shown = _section(facts, num_classes)
        if isinstance(section, SyntheticPolyps):  # whose masks are in no file
            return cls(PLAIN_MEGAPIXELS, None, None, True, _two(False))
        encoding = source_of(section.name).encoding(section)
        values, palette = ids, None
        per_object = isinstance(section, Folder) and marks_objects(section.masks)
        if encoding is not None and not (per_object and num_classes > 2):
            values, palette = _stored(encoding, num_classes, shown)
        alpha = encoding is not None and encoding.alpha
        megapixels = section.limits.megapixels
        if not isinstance(section, Folder):
            return cls(megapixels, None, None, True, values, palette, alpha)
        turn = section.exif == "turn"
        return cls(*(megapixels, section.bands, section.value_range, turn, values, palette, alpha))

    def read(self, path: Path) -> Pixels:
        """Pixels (H, W, C) or (H, W) of an image's file, as training reads it.

        Raises:
            InputError: if it cannot be used.
        """
        how = (self.megapixels, self.bands, self.value_range, self.turn)
        return read_any_image(path, *how).pixels

    def encode(self, mask: Pixels) -> bytes:
        """The PNG of class ids (H, W), in the dataset's own encoding."""
        values = cv2.LUT(mask, _table(self.values))
        if self.alpha:
            data = io.BytesIO()
            Image.fromarray(np.stack([values, values], axis=2), "LA").save(data, "PNG")
            return data.getvalue()
        png = encode_mask(values)
        return png if self.palette is None else _with_palette(png, self.palette)


def _section(facts: Facts, num_classes: int) -> tuple[Dataset, Shown]:
    """The section `dataset` that facts are of, where what they leave out is null or empty, and the
    palette of its masks."""
    tree: dict[str, Any] = {}
    try:
        shown = TypeAdapter(Shown).validate_json(facts.get(PALETTE, "[]"))
        for key, text in facts.items():
            *parents, last = key.removeprefix(PREFIX).split(".")
            if key == PALETTE:
                continue
            place = tree
            for name in parents:
                place = place.setdefault(name, {})
            plain = not parents and last in TEXT and text != "null"
            named = last == "instances"
            place[last] = text if plain or named else json.loads(text)
        if (colours := tree.get("mask", {}).get("colours")) is not None:
            # Records leave out the #.
            tree["mask"]["colours"] = {f"#{code}": id for code, id in colours.items()}
        megapixels = tree.get("limits", {}).get("megapixels", PLAIN_MEGAPIXELS)
        limits = {"unpacked_gib": 1, "size_difference": 0, "on_bad_pair": "error"}
        tree["limits"] = {**limits, "megapixels": megapixels}
        if tree["name"] == "synthetic-polyps":
            numbers = ("seed", "num_sequences", "frames_per_sequence", "contrast")
            tree = {"name": tree["name"], **dict.fromkeys(numbers, 1), "height": 32, "width": 32}
        elif tree["name"] == "folder":
            tree |= {"title": "data", "source": "", "watch": False, "images": "{id}"}
            tree["classes"] = [f"class {at}" for at in range(num_classes)]
            tree = {"masks": "{id}", "licence": "", "citation": "", **tree}
            tree |= {**dict.fromkeys(DROPPED), "redistributable": False, "published": 0}
        else:
            tree |= {"source": None, "watch": False, "checksums": {}}
            if tree["name"] == "isbi-2012":
                tree["slices_per_block"] = 1
        section: Dataset = TypeAdapter(Dataset).validate_python(tree)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise InputError(
            f"what the model says of its data describes no dataset ({reason}); train it anew, or "
            "take a model that 'segbench deliver' wrote"
        ) from None
    return section, shown


def _two(invert: bool) -> Pixels:
    return np.array([255, 0] if invert else [0, 255], np.uint8)


def _stored(encoding: MaskEncoding, num_classes: int, shown: Shown) -> tuple[Pixels, Pixels | None]:
    """What stands in a file for each class id, and the colours of that."""
    if encoding.threshold:
        return _two(bool(encoding.table[0])), None
    ids = np.arange(num_classes, dtype=np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    if encoding.colours is not None:
        for code, id in reversed(encoding.colours.items()):
            palette[id] = code >> 16, code >> 8 & 255, code & 255
        return ids, palette
    values = ids.copy()
    free = [at for at in range(256) if at not in encoding.known]
    for id in range(num_classes):
        own = [at for at in sorted(encoding.known) if encoding.table[at] == id]
        if not own and not free:
            raise InputError(
                f"what the model says of its data leaves no value of a mask to class {id}; take a "
                "model that 'segbench deliver' wrote"
            )
        values[id] = own[0] if own else id if id in free else free[0]
    for index, code, _ in shown:
        palette[index] = code >> 16, code >> 8 & 255, code & 255
    return values, palette if shown else None


def _table(values: Pixels) -> Pixels:
    table = np.zeros(256, np.uint8)
    table[: len(values)] = values
    return table


def _with_palette(png: bytes, palette: Pixels) -> bytes:
    """A grey PNG as one whose values are indices of a palette (256, 3)."""
    start, end = 8, 8 + 25  # of the chunk IHDR, which is the first
    header = bytearray(png[start + 4 : end - 4])
    header[13] = 3  # colour type
    return png[:start] + _chunk(bytes(header)) + _chunk(b"PLTE" + palette.tobytes()) + png[end:]


def _chunk(content: bytes) -> bytes:
    """A chunk of a PNG, of its name and data."""
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
