"""Frames of videos, and which of them cannot be decoded."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from segbench.images import Pixels

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
COUNTED = (".mp4", ".m4v", ".mov", ".avi")
"""Whose headers count frames. Others tell a duration, from which the decoder guesses a number."""
SLACK = 1
"""Frames by which a header may be wrong."""
TAIL_S = 1.0
"""Seconds that may follow the last frame of a video whose frames are not counted."""
PATIENCE = 100
"""Frames in a row that cannot be decoded, after which none is expected."""


def num_frames(path: Path) -> int:
    """As a video's header says, which may be wrong; 0 if it is unreadable or does not say."""
    with _opened(path) as video:
        return _said(video)


def frames(
    path: Path,
    grey: bool,
    wanted: Callable[[int], bool],
    lost: Callable[[int, int], None],
) -> Iterator[tuple[int, Pixels | None]]:
    """Decode a video.

    Args:
        path: of the video.
        grey: or in colours.
        wanted: whether the pixels of a frame are asked for.
        lost: gets the first and last number of frames that cannot be decoded. Between frames it
            is certain; behind the last one it is what the header says, of a video whose frames
            are not counted by its duration. Not called of a video without any frame.

    Yields:
        Number, from 1, and pixels (H, W, 3) RGB or (H, W); None where they are not wanted.
    """
    code = cv2.COLOR_BGR2GRAY if grey else cv2.COLOR_BGR2RGB
    with _opened(path) as video:
        number = last = 0
        seconds = 0.0
        while number - last < PATIENCE:
            number += 1
            if not video.grab():
                continue
            pixels = None
            if wanted(number):
                there, frame = video.retrieve()
                if not there:
                    continue
                pixels = cv2.cvtColor(frame, code)
            if number > last + 1:
                lost(last + 1, number - 1)
            last, seconds = number, video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield number, pixels
        said, rate = _said(video), video.get(cv2.CAP_PROP_FPS)
        if path.suffix.lower() not in COUNTED and rate > 0 and said / rate - seconds <= TAIL_S:
            return
        if last and said - last > SLACK:
            lost(last + 1, said)


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    # ffmpeg's own lines name addresses, not files; what matters is said by who calls. It reads the
    # variable when the first video of a process is opened.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    video = cv2.VideoCapture(str(path))
    try:
        yield video
    finally:
        video.release()


def _said(video: cv2.VideoCapture) -> int:
    return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
