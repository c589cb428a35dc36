"""Fundus photographs, which are all alike and all different."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.images import Pixels

SIZE = 160


def as_bytes(values: NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def retina(seed: int) -> Pixels:
    """A fundus photograph: round field, bright disc left or right, dark macula, vessels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    centre = SIZE / 2 + rng.normal(0, 1, 2)
    side = rng.choice([-1, 1])
    disc = centre + np.array([rng.normal(0, 3), side * SIZE * 0.26 + rng.normal(0, 2)])

    def spot(at: NDArray[np.floating], size: float) -> NDArray[np.floating]:
        away = (rows - at[0]) ** 2 + (columns - at[1]) ** 2
        return np.asarray(np.exp(-away / (2 * size**2))[..., None])

    image = np.ones((SIZE, SIZE, 3)) * [170, 70, 25]
    image += spot(centre + rng.normal(0, 8, 2), SIZE * 0.4) * [60, 60, 30]
    image += spot(disc, SIZE * 0.045) * [60, 90, 60] - spot(centre, SIZE * 0.07) * [35, 30, 12]
    vessels = np.zeros((SIZE, SIZE), np.uint8)

    def grow(at: NDArray[np.floating], angle: float, width: float) -> None:
        for _ in range(int(rng.uniform(8, 18))):
            then = at + 2 * np.array([np.sin(angle), np.cos(angle)])
            ends = [(int(point[1]), int(point[0])) for point in (at, then)]
            cv2.line(vessels, *ends, 255, max(1, round(width)), cv2.LINE_AA)
            at, angle = then, angle + rng.normal(0, 0.14)
        if width > 1:
            for turned in (-1, 1):
                grow(at, angle + turned * rng.uniform(0.2, 0.7), 0.75 * width)

    for angle in (-1.1, -0.7, 0.7, 1.1, -1.9, 1.9):
        grow(disc, (angle if side < 0 else np.pi - angle) + rng.normal(0, 0.2), SIZE * 0.016)
    image -= (vessels / 255)[..., None] * [45, 45, 15]
    image = image * rng.uniform(0.8, 1.1) + rng.normal(0, 3, image.shape)
    outside = np.hypot(rows - centre[0], columns - centre[1]) > SIZE * 0.47
    image[outside] = 2
    return as_bytes(image)
