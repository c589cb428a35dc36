"""The canonical form of a dataset, which ingest writes and the rest of the pipeline reads."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segbench.images import Pixels
from segbench.labels import LabelScheme

THUMBNAIL_SIZE = 32
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
"""How cells begin that spreadsheets compute; and what `plain_text` puts before them."""
Palette = tuple[tuple[int, int, int], ...]
"""(index, colour code, class id) of what a mask's file shows by palette index."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset as a whole.

    Attributes:
        name: as in params.yaml.
        classes: names by class id.
        licence: in words.
        redistributable: True where its pictures may be passed on, so that a report may embed them.
        citation: what to cite, empty if nothing.
        foreground: between which shares the foreground of all images together should lie.
        published: how many samples were published; 0 where that is not known.
        colours: `#rrggbb` by class id, in which pictures show the classes; empty: any.
        spacing: millimetres from a pixel to the one below it and to the one beside it, in all
            images; None: not known.
        has_spacings: each image has one of its own, see `read_spacings`.
        background: class id of what is no object; None: every class is one.
        palette: of the masks' files, where they are stored by palette index; empty: they are not.
    """

    name: str
    classes: tuple[str, ...]
    licence: str
    redistributable: bool
    citation: str
    foreground: tuple[float, float] = (0.0, 0.5)
    published: int = 0
    colours: tuple[str, ...] = ()
    spacing: tuple[float, float] | None = None
    background: int | None = 0
    has_spacings: bool = False
    palette: Palette = ()

    @property
    def unit(self) -> str:
        """Of distances at an image's own size."""
        return "mm" if self.spacing or self.has_spacings else "pixels"

    @property
    def scheme(self) -> LabelScheme:
        """How many classes there are, and which is the background."""
        return LabelScheme(len(self.classes), self.background)

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the classes that have scores, ascending by id."""
        return tuple(self.classes[at] for at in self.scheme.scored)


@dataclass(frozen=True)
class Sample:
    """One image with its mask.

    Attributes:
        id: unique, usable as a file name.
        image: (H, W, 3) RGB, (H, W) grey, or (H, W, C) of other bands.
        mask: (H, W) class ids, or 255 for ignored pixels.
        group: what a split must not tear apart; the id itself where nothing binds samples.
        stratum: what a split should balance, empty where there is nothing to balance.
        source: the image's origin, for messages.
        split: train, val or test as published, empty if that is not said.
        previous: id of the sample that it continues (the slice below), empty if none.
        encoded: ending and bytes of the image's file, if that is a canonical one already.
        mask_values: how many values the mask's file holds.
        mask_between: share of its pixels that hold neither its least nor its greatest value.
        mask_resized: was the mask of another size than the image?
        palette: of the mask's file.
        exif: what became of the EXIF orientation of image or mask: `turned 6`, `ignored 6`, empty.
        exif_other: how strong the edges along the mask's outlines would be if image and mask were
            read the other way, in relation to how strong they are; 0 where that says nothing.
        clipped: share of the image's pixels outside `dataset.value_range`.
        transparent: share of the image's pixels that are not opaque in its file.
        contested: how many pixels of the mask several files give to different classes.
        ignored_foreground: how many pixels of foreground the file of ignored pixels takes.
        without_file: class ids whose mask file is missing, which counts as: not in the image.
        spacing: of the image, in millimetres; None: that of all, or not known.
    """

    id: str
    image: Pixels
    mask: Pixels
    group: str
    stratum: str
    source: str
    split: str = ""
    previous: str = ""
    encoded: tuple[str, bytes] | None = None
    mask_values: int = 0
    mask_between: float = 0.0
    mask_resized: bool = False
    palette: Palette = ()
    exif: str = ""
    exif_other: float = 0.0
    clipped: float = 0.0
    transparent: float = 0.0
    contested: int = 0
    ignored_foreground: int = 0
    without_file: tuple[int, ...] = ()
    spacing: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SampleReader:
    """Samples that are read together: one pair of files, or one generated sequence.

    Attributes:
        count: how many samples.
        read: reads them; InputError if they cannot be used.
    """

    count: int
    read: Callable[[], Iterable[Sample]]


def plain_text(text: str) -> str:
    """A text that spreadsheets do not take for a formula: behind a ' where it begins like one.

    So begins a label, in all tables of all stages. Numbers stay as they are. Another text becomes
    another text.
    """
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of samples; ids and labels stay text, whatever they look like."""
    text = dict.fromkeys(
        ("id", "group", "stratum", "previous", "split", "file", "whole", "exif", "without_file"),
        str,
    )
    return pd.read_csv(path, dtype=text, keep_default_na=False)


def read_samples(folder: Path) -> pd.DataFrame:
    """Read samples.csv of a canonical folder."""
    return read_table(folder / "samples.csv")


def read_spacings(folder: Path) -> dict[str, tuple[float, float]]:
    """Millimetres from a pixel to the one below it and to the one beside it, by id, from
    spacing.csv of a canonical folder; empty where images have none of their own."""
    path = folder / "spacing.csv"
    if not path.exists():
        return {}
    rows = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    values = zip(rows["row"].astype(float), rows["column"].astype(float), strict=True)
    return dict(zip(rows["id"], values, strict=True))


def read_thumbnails(folder: Path) -> Pixels:
    """Read the thumbnails of a canonical folder: (N, 32, 32, 3), in the order of samples.csv."""
    pixels = np.fromfile(folder / "thumbnails.u8", np.uint8)
    return pixels.reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)


def read_info(folder: Path) -> DatasetInfo:
    """Read dataset.json of a canonical folder."""
    fields = json.loads((folder / "dataset.json").read_text())
    names = ("classes", "foreground", "colours")
    lists: dict[str, tuple[Any, ...]] = {name: tuple(fields[name]) for name in names}
    if spacing := fields.get("spacing"):
        lists["spacing"] = tuple(spacing)
    lists["palette"] = tuple(tuple(one) for one in fields.get("palette", ()))
    return DatasetInfo(**{**fields, **lists})
