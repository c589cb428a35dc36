"""The images that are predicted: of a folder, a glob or a file, and the frames of videos."""

import glob
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
from PIL import Image

from segbench.datasets.patterns import files_below
from segbench.errors import InputError
from segbench.images import Pixels

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
WILD = "*?["
NAMED = 3
"""Files that a message names."""


@dataclass(frozen=True)
class Item:
    """An image to predict.

    Attributes:
        name: path below what was named; of a frame, `clip.mp4/000001`.
        target: of what is written of it: a path without ending.
        stamp: changes when the file does.
        read: its pixels (H, W, C) or (H, W); InputError if it cannot be used.
    """

    name: str
    target: str
    stamp: str
    read: Callable[[], Pixels]


@dataclass(frozen=True)
class _File:
    """A file to predict; `target` as of `Item`, of a video that of the folder of its frames."""

    path: Path
    name: str
    target: str

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEOS

    @property
    def stamp(self) -> str:
        status = self.path.stat()
        return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass(frozen=True)
class Listing:
    """What is to be predicted.

    Attributes:
        files: in order of their names.
        others: names of files that are no images.
        total: number of images, as far as the headers of videos say.
    """

    files: Sequence[_File]
    others: Sequence[str]
    total: int


@cache
def endings() -> frozenset[str]:
    """Of the files that are taken for images."""
    Image.init()
    formats = set(Image.OPEN) - {"ICO", "EPS", "MPEG", "PDF"}
    return frozenset(end for end, name in Image.EXTENSION.items() if name in formats)


def list_images(where: str, out: Path) -> Listing:
    """Find the images and videos of a folder, of a glob such as `a/**/*.png`, or a single file.

    Args:
        where: the folder, glob or file.
        out: folder of results, which are no input.

    Raises:
        InputError: if there is none.
    """
    path = Path(where).expanduser()
    if path.is_dir():
        root, found = path, sorted(files_below(path))
    elif path.exists():
        root, found = path.parent, [path]
    elif any(sign in where for sign in WILD):
        fixed = next(at for at, part in enumerate(path.parts) if any(w in part for w in WILD))
        root = Path(*path.parts[:fixed])
        named = glob.glob(str(path), recursive=True)
        found = sorted(one for one in map(Path, named) if not one.is_dir())
    else:
        raise InputError(f"{where}: no such file or folder; name a folder, a glob or a video")
    results = out.resolve()
    found = [one for one in found if results not in one.resolve().parents]
    single = len(found) == 1 and found[0] == path
    taken = [one for one in found if single or one.suffix.lower() in {*endings(), *VIDEOS}]
    others = [one.relative_to(root).as_posix() for one in found if one not in set(taken)]
    if not taken:
        seen = f"{len(others)} other files, such as {others[0]}" if others else "no files"
        raise InputError(f"{where}: no images or videos ({seen}); name where they are")
    names = [one.relative_to(root).as_posix() for one in taken]
    bare = [Path(name).with_suffix("").as_posix() for name in names]
    # Files that differ in their ending alone keep it.
    times = Counter(name.lower() for name in bare)
    targets = [
        short if times[short.lower()] == 1 else name
        for short, name in zip(bare, names, strict=True)
    ]
    files = [_File(*one) for one in zip(taken, names, targets, strict=True)]
    total = sum(num_frames(one.path) if one.is_video else 1 for one in files)
    return Listing(files, others, total)


def items_of(
    listing: Listing,
    read: Callable[[Path], Pixels],
    channels: int,
    done: Container[tuple[str, str]],
    failed: Callable[[str, str], None],
) -> Iterator[Item]:
    """The images of a listing, in order; frames of videos are decoded as they are taken.

    Args:
        listing: of `list_images`.
        read: an image's file.
        channels: of the network; a frame is grey where it is 1.
        done: (name, stamp) of those that are left out.
        failed: gets the name of a video without any frame, and why.
    """
    for file in listing.files:
        try:
            stamp = file.stamp
        except OSError:
            failed(file.name, "gone, or a link to nothing; fetch what it points to")
            continue
        if not file.is_video:
            if (file.name, stamp) not in done:
                yield Item(file.name, file.target, stamp, partial(read, file.path))
            continue
        empty = True
        for frame in _frames(file, stamp, channels, done):
            empty = False
            if frame is not None:
                yield frame
        if empty:
            failed(file.name, "no frame of it can be decoded; convert it to H.264 in MP4")


def num_frames(path: Path) -> int:
    """As a video's header says, which may be wrong; 0 if it is unreadable."""
    video = cv2.VideoCapture(str(path))
    try:
        return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        video.release()


def _frames(
    file: _File, stamp: str, channels: int, done: Container[tuple[str, str]]
) -> Iterator[Item | None]:
    """The frames of a video, numbered from 1; None for those that are done."""
    video = cv2.VideoCapture(str(file.path))
    try:
        number = 0
        while video.grab():
            number += 1
            short = f"{number:06d}"
            if (f"{file.name}/{short}", stamp) in done:
                yield None
                continue
            there, frame = video.retrieve()
            if not there:
                return
            code = cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_BGR2RGB
            pixels = cv2.cvtColor(frame, code)
            target = f"{file.target}/{short}"
            yield Item(f"{file.name}/{short}", target, stamp, partial(_same, pixels))
    finally:
        video.release()


def _same(pixels: Pixels) -> Pixels:
    return pixels
