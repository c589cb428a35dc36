"""Samples: images with masks of class ids, and the canonical form that the pipeline reads."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.errors import InputError

IGNORE = 255
"""Class id of pixels that neither train nor count."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Info:
    """What is known of a dataset as a whole.

    Attributes:
        name: as in params.yaml.
        classes: names by class id; the first is the background.
        licence: in words.
        redistributable: True where its pictures may be passed on, so that a report may embed them.
        citation: what to cite, empty if nothing.
    """

    name: str
    classes: tuple[str, ...]
    licence: str
    redistributable: bool
    citation: str


@dataclass(frozen=True)
class Sample:
    """One image with its mask.

    Attributes:
        id: unique, usable as a file name.
        image: (H, W, 3) RGB or (H, W) grey.
        mask: (H, W) class ids, or 255 for ignored pixels.
        group: what a split must not tear apart; the id itself where nothing binds samples.
        stratum: what a split should balance, empty where there is nothing to balance.
        source: the image's origin, for messages.
    """

    id: str
    image: Pixels
    mask: Pixels
    group: str
    stratum: str
    source: str


def read_samples(folder: Path) -> pd.DataFrame:
    """Read samples.csv of a canonical folder; ids, groups and strata as text."""
    text = {"id": str, "group": str, "stratum": str}
    return pd.read_csv(folder / "samples.csv", dtype=text, keep_default_na=False)


def read_info(folder: Path) -> Info:
    """Read dataset.json of a canonical folder."""
    fields = json.loads((folder / "dataset.json").read_text())
    return Info(**{**fields, "classes": tuple(fields["classes"])})


def read_pixels(path: Path) -> Pixels:
    """Read a canonical PNG: (H, W, 3) RGB or (H, W)."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{path}: unreadable; run 'dvc repro -f download' to make it anew")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.ndim == 3 else pixels
