"""The images that are predicted: of a folder, a glob or a file, and the frames of videos."""

import errno
import os
import stat
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from PIL import Image

from segbench.datasets.patterns import printable
from segbench.delivery.made import holds_results
from segbench.delivery.places import Place, find
from segbench.delivery.targets import targets_of
from segbench.delivery.videos import VIDEOS, frames, num_frames
from segbench.errors import InputError
from segbench.images import Pixels

NO_READING = "may not be read; let your user read it"


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
class InputFile:
    """A file to predict; attributes as of `Item`, of a video `target` is a folder."""

    path: Path
    name: str
    target: str
    stamp: str

    @property
    def is_video(self) -> bool:
        return _is_video(self.path)


@dataclass(frozen=True)
class Listing:
    """What is to be predicted.

    Attributes:
        where: the folder, glob or file, absolute and without links.
        files: in order of their names.
        others: names of files that are no images.
        earlier: names of images that are left out because an earlier prediction made them.
        faults: name and reason of what cannot be predicted, closed folders among it.
        total: number of images with those that cannot be predicted, as far as videos' headers say.
    """

    where: str
    files: Sequence[InputFile]
    others: Sequence[str]
    earlier: Sequence[str]
    faults: Sequence[tuple[str, str]]
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
        InputError: if there is none, or if results of two would have the same place.
    """
    place = find(where)
    kinds = {*endings(), *VIDEOS}
    images = [one for one in place.files if place.single or one.suffix.lower() in kinds]
    outside = _outside(place.files, out)
    if images and not outside.intersection(images):
        raise InputError(
            f"{where}: all its images lie in {out}, where results go; name another folder by --out"
        )
    made = set() if place.single else outside.intersection(_of_predictions(place))
    free = outside - made
    taken = [one for one in images if one in free]
    no_images = free.difference(images)
    others = [_name(one, place) for one in place.files if one in no_images]
    earlier = [_name(one, place) for one in images if one in made]
    faults = [(f"{_name(one, place)}/", f"a folder that {NO_READING}") for one in place.closed]
    if not taken:
        raise InputError(
            f"{where}: no images or videos ({_seen(others, earlier, faults)}); name where they are"
        )
    stamped: list[tuple[Path, str]] = []
    for path in taken:
        try:
            stamped.append((path, _stamp(path, place)))
        except InputError as problem:
            faults.append((_name(path, place), str(problem)))
    names = [_name(path, place) for path, _ in stamped]
    targets = targets_of(names, [_is_video(path) for path, _ in stamped])
    files = [
        InputFile(path, name, target, stamp)
        for (path, stamp), name, target in zip(stamped, names, targets, strict=True)
    ]
    total = sum(num_frames(one.path) if one.is_video else 1 for one in files) + len(faults)
    return Listing(place.where, files, others, earlier, faults, total)


def items_of(
    listing: Listing,
    read: Callable[[Path], Pixels],
    channels: int,
    done: Container[str],
    failed: Callable[[str, str, int], None],
) -> Iterator[Item]:
    """The images of a listing, in order; frames of videos are decoded as they are taken.

    Args:
        listing: of `list_images`.
        read: an image's file.
        channels: of the network; a frame is grey where it is 1.
        done: names of those that are left out.
        failed: gets the name of what cannot be predicted, why, and how many images it is: of a
            video, the frames.
    """
    for name, reason in listing.faults:
        failed(name, reason, 1)
    for file in listing.files:
        if file.is_video:
            yield from _frames(file, channels, done, failed)
        elif file.name not in done:
            yield Item(file.name, file.target, file.stamp, partial(read, file.path))


def _frames(
    file: InputFile, channels: int, done: Container[str], failed: Callable[[str, str, int], None]
) -> Iterator[Item]:
    def name(number: int) -> str:
        return f"{file.name}/{number:06d}"

    def lost(first: int, last: int) -> None:
        which = f"frames {first} to {last}" if last > first else f"frame {first}"
        reason = f"{which} cannot be decoded; copy the video anew, or convert it to H.264 in MP4"
        failed(file.name, reason, last - first + 1)

    empty = True
    for number, pixels in frames(file.path, channels == 1, lambda at: name(at) not in done, lost):
        empty = False
        if pixels is not None:
            target = f"{file.target}/{number:06d}"
            yield Item(name(number), target, file.stamp, partial(_same, pixels))
    if empty:
        failed(file.name, "no frame of it can be decoded; convert it to H.264 in MP4", 1)


def _same(pixels: Pixels) -> Pixels:
    return pixels


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS


def _name(path: Path, place: Place) -> str:
    return printable(path.relative_to(place.root).as_posix())


def _outside(files: Sequence[Path], folder: Path) -> set[Path]:
    """Files that do not lie below a folder, wherever links lead."""
    below = os.path.join(os.path.realpath(folder), "")
    return {one for one in files if not os.path.realpath(one).startswith(below)}


def _of_predictions(place: Place) -> Iterator[Path]:
    """Files of a place that lie in folders which `segbench predict` made."""

    @cache
    def is_made(folder: Path) -> bool:
        return holds_results(folder) or (folder != place.root and is_made(folder.parent))

    return (one for one in place.files if is_made(one.parent))


def _seen(others: Sequence[str], earlier: Sequence[str], faults: Sequence[tuple[str, str]]) -> str:
    seen = [f"{name} is {reason}" for name, reason in faults[:1]]
    if earlier:
        seen.append(f"{len(earlier)} results of earlier predictions, such as {earlier[0]}")
    if others:
        seen.append(f"{len(others)} other files, such as {others[0]}")
    return ", ".join(seen) or "no files"


def _stamp(path: Path, place: Place) -> str:
    """Changes when a file does, also when a copy of another takes its place with size and time.

    Raises:
        InputError: if it cannot be a file to predict.
    """
    if path.relative_to(place.root).as_posix() != _name(path, place):
        raise InputError("its name is not UTF-8; rename it")
    try:
        status = os.stat(path)
    except OSError as problem:
        if problem.errno in (errno.EACCES, errno.EPERM):
            raise InputError(NO_READING) from None
        raise InputError("gone, or a link to nothing; fetch what it points to") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError("a pipe or device, not a file; put the file in its place")
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
