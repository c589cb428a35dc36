"""Videos, whole and damaged."""

from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, number: int, code: str = "mp4v") -> None:
    """A video of noise, 96 x 80, whose frames have no frame of the same look beside them."""
    rng = np.random.default_rng(0)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 5, (96, 80))
    for _ in range(number):
        video.write(rng.integers(0, 255, (80, 96, 3), np.uint8))
    video.release()


def damage_frames(path: Path, *numbers: int) -> None:
    """Overwrite frames of a Motion JPEG, counted from 1, but not its last one."""
    data, starts, at = bytearray(path.read_bytes()), [], 0
    while (at := data.find(b"\xff\xd8\xff", at)) >= 0:
        starts.append(at)
        at += 3
    for number in numbers:
        first, end = starts[number - 1], starts[number] - 8
        data[first:end] = bytes(end - first)
    path.write_bytes(data)
