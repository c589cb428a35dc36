"""A folder of images and masks of one's own, and the params that read it."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from segbench.params.datasets import Folder

Fields = dict[str, Any]
LIMITS: Fields = {"megapixels": 50, "unpacked_gib": 1, "size_difference": 0, "on_bad_pair": "error"}
HEIGHT, WIDTH = 20, 30
TRUTH = np.zeros((HEIGHT, WIDTH), np.uint8)
TRUTH[5:10, 5:20] = 1


def own(folder: Path, limits: Fields | None = None, **changes: Any) -> Folder:
    fields = {
        "name": "folder",
        "title": "mine",
        "source": str(folder),
        "watch": True,
        "images": "images/{id}.*",
        "masks": "masks/{id}_mask.*",
        "classes": ["background", "crack"],
        "mask": {"values": {0: 0, 255: 1}},
        "group": None,
        "stratum": None,
        "split": None,
        "ignore": None,
        "exif": "turn",
        "bands": None,
        "value_range": None,
        "spacing": None,
        "foreground": None,
        "licence": "own",
        "redistributable": False,
        "citation": "",
        "published": 0,
        "limits": {**LIMITS, **(limits or {})},
    }
    return Folder.model_validate({**fields, **changes})


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def make_source(folder: Path, ids: Iterable[str], height: int = HEIGHT, width: int = WIDTH) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    mask = cv2.resize(TRUTH * 255, (width, height), interpolation=cv2.INTER_NEAREST)
    for seed, id in enumerate(ids):
        Image.fromarray(noise(seed, height, width)).save(folder / "images" / f"{id}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{id}_mask.png")
    return folder
