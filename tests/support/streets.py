"""Street scenes of 11 classes in CamVid's own layout, as SegNet's authors published it.

PYTHONPATH=src:tests python -m support.streets FOLDER

writes FOLDER/train, trainannot, val, valannot, test and testannot: PNG images, and masks whose
values are class ids 0 to 10 and 11 where nothing is labelled. Sequences lie in one split each.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segbench.images import Pixels

CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("pedestrian", "bicyclist"),
)
"""In CamVid's order; none is background."""
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST, VOID = range(12)
HEIGHT, WIDTH = 120, 160
SEQUENCES = {"train": 28, "val": 8, "test": 12}
FRAMES = 4
"""Of each sequence."""

COLOURS = np.array(
    [
        *([170, 190, 210], [120, 105, 95], [60, 60, 65], [85, 85, 90], [135, 125, 120]),
        *([60, 90, 50], [150, 60, 50], [115, 95, 70], [70, 75, 110], [125, 75, 75]),
        *([95, 85, 110], [100, 100, 100]),
    ]
)
"""Usual colour of each class and of what is not labelled; neighbours are alike."""


def street(sequence: int, frame: int) -> tuple[Pixels, Pixels]:
    """A frame of a drive: image (H, W, 3) and class ids (H, W), 11 where nothing is labelled."""
    drive = np.random.default_rng([7, sequence])
    mask = _layout(drive, np.random.default_rng([7, sequence, 1]), frame)
    colours = COLOURS + drive.normal(0, 14, COLOURS.shape)
    light = drive.uniform(0.75, 1.2)
    rng = np.random.default_rng([11, sequence, frame])
    coarse = drive.normal(0, 15, (9, 12, 3)).astype(np.float32)
    image = colours[mask] + cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = light * image + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    return cv2.GaussianBlur(image.clip(0, 255).astype(np.uint8), (0, 0), 0.8), mask


def _layout(drive: np.random.Generator, things: np.random.Generator, frame: int) -> Pixels:
    """Class ids of a frame: far things first, near ones over them."""
    horizon = int(drive.integers(44, 62))
    vanishing = int(drive.integers(55, 105))
    mask = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    for left in range(0, WIDTH, 20):
        what = drive.choice([BUILDING, BUILDING, TREE, SKY])
        top = horizon - int(drive.integers(8, 44))
        _box(mask, left - 2 * frame, top, 20 + int(drive.integers(0, 12)), HEIGHT - top, what)
    mask[horizon + 6 :] = PAVEMENT
    road = [(vanishing, horizon), (vanishing + 10, horizon), (WIDTH + 10, HEIGHT), (-10, HEIGHT)]
    cv2.fillPoly(mask, [np.array(road)], ROAD)
    if drive.random() < 0.5:
        _box(mask, 0, horizon, int(drive.integers(20, 60)), 12, FENCE)
    for _ in range(int(drive.integers(0, 3))):
        place = int(drive.integers(0, WIDTH))
        cv2.circle(mask, (place - 3 * frame, horizon - 16), int(drive.integers(8, 18)), TREE, -1)
        _box(mask, place - 3 * frame - 1, horizon - 8, 3, 18, TREE)
    for _ in range(int(drive.integers(1, 4))):
        place = int(drive.integers(4, WIDTH - 4)) - 4 * frame
        _box(mask, place, horizon - 30, 2, 44, POLE)
        if drive.random() < 0.4:
            _box(mask, place - 3, horizon - 32, 8, 8, SIGN)
    for _ in range(int(things.integers(1, 4))):
        wide = int(things.integers(14, 34))
        left = int(things.integers(0, WIDTH - wide)) + 5 * frame
        top = horizon + int(things.integers(2, 30))
        _box(mask, left, top, wide, wide // 2, CAR)
        _box(mask, left + wide // 5, top - wide // 5, 3 * wide // 5, wide // 5 + 1, CAR)
    for what, often in ((PEDESTRIAN, 0.5), (BICYCLIST, 0.25)):
        while things.random() < often:
            place = int(things.integers(5, WIDTH - 5)) + 3 * frame
            tall = int(things.integers(12, 26))
            middle = (place, horizon + int(things.integers(6, 20)))
            cv2.ellipse(mask, middle, (max(2, tall // 5), tall // 2), 0, 0, 360, what, -1)
            if what == BICYCLIST:
                cv2.circle(mask, (place, middle[1] + tall // 2), max(3, tall // 4), what, -1)
    mask[-3:] = VOID  # the car that films
    mask[things.random(mask.shape) < 0.002] = VOID
    return mask


def _box(mask: Pixels, left: int, top: int, wide: int, tall: int, class_id: int) -> None:
    mask[max(0, top) : max(0, top + tall), max(0, left) : max(0, left + wide)] = class_id


def write_streets(folder: Path) -> None:
    """Write the data set; files are named as CamVid names them, by sequence and frame."""
    number = 0
    for split, sequences in SEQUENCES.items():
        for ending in ("", "annot"):
            (folder / f"{split}{ending}").mkdir(parents=True)
        for _ in range(sequences):
            for frame in range(FRAMES):
                image, mask = street(number, frame)
                name = f"{number:04d}TP_{6690 + 30 * frame:06d}.png"
                Image.fromarray(image).save(folder / split / name)
                Image.fromarray(mask).save(folder / f"{split}annot" / name)
            number += 1


if __name__ == "__main__":
    write_streets(Path(sys.argv[1]))
