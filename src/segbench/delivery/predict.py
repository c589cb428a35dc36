"""Masks of new images by a finished model, as evaluation makes them of test images."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from segbench.delivery.choice import Forward, open_model
from segbench.delivery.finding import Source
from segbench.delivery.inputs import Item, Listing, items_of, list_images
from segbench.delivery.outputs import Outputs, Wanted
from segbench.devices import ResolvedHardware, oom_as_input_error, prepare
from segbench.errors import InputError
from segbench.evaluation.predict import probabilities
from segbench.images import Pixels, as_rgb, with_channels
from segbench.parallel import num_cores
from segbench.progress import ProgressBar, duration
from segbench.report.drawing import shrink
from segbench.windows import Window, blend_bands, packed_place, tile_windows

AHEAD = 2
"""Batches that are read ahead, or written behind, while a device of its own computes."""
TRIED, MANY = 4, 100
"""Images that runtimes are tried on, and from how many on they are."""
NAMED = 3
"""Failures that a message names."""


@dataclass
class _Read:
    """An image on its way.

    Attributes:
        size: its own height and width.
        shown: what an overlay is drawn on.
        pixels: (H, W, C) until all its windows are cut, or its single one as the network sees it.
        windows: what it is cut into.
        logits: of the windows that are predicted so far.
    """

    item: Item
    size: tuple[int, int]
    shown: Pixels | None
    pixels: Pixels | None
    windows: list[Window]
    logits: list[NDArray[np.float32]] = field(default_factory=list)


def predict_folder(
    source: Source,
    images: str,
    out: Path,
    resolved: ResolvedHardware,
    batch_size: int,
    wanted: Wanted,
    runtime: str = "auto",
    fresh: bool = False,
) -> str:
    """Predict images and write what is wanted of them; those that are done already are left out.

    Args:
        source: the model.
        images: a folder, a glob, an image or a video.
        out: folder of results, see `Outputs`.
        resolved: the hardware.
        batch_size: of images or windows.
        wanted: what is written beside masks.
        runtime: see `open_model`.
        fresh: predict all, in place of the results that lie there.

    Returns:
        What was made, in a line.

    Raises:
        InputError: for images that are not there, videos for a network of chosen bands, results of
            another model, and, once all others are done, images that could not be read.
    """
    prepare(resolved)
    torch.backends.cudnn.allow_tf32 = False  # as evaluation
    listing = list_images(images, out)
    _refuse_videos(listing, source)
    outputs = Outputs(out, source, wanted, fresh, listing)
    started = time.perf_counter()
    # To try runtimes takes as long as some batches.
    few = None if listing.total < MANY else lambda: _few(listing, source)
    forward, said = open_model(source, resolved, runtime, few)
    try:
        items = items_of(listing, source.data.read, source.channels, outputs.done, outputs.fail)
        with ProgressBar("predict", listing.total) as bar:
            bar.go_on_from(len(outputs.done))
            way_out = f"--batch-size {batch_size} does not fit; halve it, or take --device cpu"
            with oom_as_input_error(way_out):
                overlap = resolved.device != "cpu"
                for _ in run(source, items, forward, outputs, batch_size, overlap, wanted.overlays):
                    bar.update()
    finally:
        outputs.close()
    seconds = time.perf_counter() - started
    number, before = outputs.counts
    done = f"{number} images in {duration(seconds)} {said}, by {source.name}, in {out}"
    if before:
        done += f"; {before} were done already"
    if outputs.dropped:
        done += (
            f"; {outputs.dropped} earlier results are left out of images.csv, as their images are "
            "gone or cannot be read now"
        )
    if listing.earlier:
        done += (
            f"; {len(listing.earlier)} images are results of earlier predictions and left out "
            f"({listing.earlier[0]})"
        )
    if listing.others:
        some = ", ".join(listing.others[:NAMED])
        done += f"; {len(listing.others)} other files are no images ({some})"
    if outputs.failures:
        first = "; ".join(f"{name}: {reason}" for name, reason in outputs.failures[:NAMED])
        raise InputError(
            f"{outputs.num_failed} of {listing.total} images could not be predicted, listed in "
            f"{out / 'failures.csv'} ({first}); {done}"
        )
    return done


def _refuse_videos(listing: Listing, source: Source) -> None:
    """Raise InputError for videos where the network sees chosen bands: frames have their own."""
    videos = [one.name for one in listing.files if one.is_video]
    if videos and source.data.bands:
        bands = ", ".join(map(str, source.data.bands))
        raise InputError(
            f"{videos[0]}: a video, but {source.name} was trained on bands {bands} of image files; "
            "name images that have these bands"
        )


def _few(listing: Listing, source: Source) -> Pixels:
    """The first images of a listing that can be read, as the network sees them: (N, H, W, C)."""
    found: list[Pixels] = []
    for item in items_of(listing, source.data.read, source.channels, (), lambda *_: None):
        try:
            read = _read(item, source, overlays=False)
        except InputError:
            continue
        assert read.pixels is not None
        window = read.windows[0]
        whole = source.patches is None
        size = (source.height, source.width)
        found.append(read.pixels if whole else window.resized(read.pixels, *size))
        if len(found) == TRIED:
            break
    return np.stack(found or [np.zeros((source.height, source.width, source.channels), np.uint8)])


def run(
    source: Source,
    items: Iterator[Item],
    forward: Forward,
    outputs: Outputs,
    batch_size: int,
    overlap: bool,
    overlays: bool,
) -> Iterator[str]:
    """Predict images; yields the name of each that was written or could not be read.

    Threads read and write images. On a device of its own the network computes meanwhile; on the
    CPU, which it fills, they work between its batches. What is held at a time depends on the size
    of images, not on their number.

    Args:
        source: the model.
        items: the images.
        forward: its network.
        outputs: where results go.
        batch_size: of images or windows.
        overlap: whether the network computes elsewhere.
        overlays: whether these are drawn.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    # A tiled image fills batches alone, and is held whole meanwhile.
    at_a_time = batch_size if source.patches is None else num_cores()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(num_cores()))
        stack.callback(cv2.setNumThreads, threads)
        stack.callback(pool.shutdown, cancel_futures=True)
        reading: deque[tuple[Item, Future[_Read]]] = deque()
        writing: deque[tuple[Item, Future[list[int | float]]]] = deque()

        def read_ahead() -> None:
            room = at_a_time * (AHEAD if overlap else 1) - len(reading)
            for item in islice(items, max(0, room)):
                reading.append((item, pool.submit(_read, item, source, overlays)))

        def take() -> _Read | str | None:
            """The next image; its name if it cannot be read; None if there is none."""
            if not reading:
                read_ahead()
            if not reading:
                return None
            item, future = reading.popleft()
            try:
                return future.result()
            except InputError as problem:
                outputs.fail(item.name, str(problem))
                return item.name

        def written(most: int) -> Iterator[str]:
            while len(writing) > most:
                item, future = writing.popleft()
                try:
                    outputs.finish(item, future.result())
                except InputError as problem:
                    outputs.fail(item.name, str(problem))
                yield item.name

        def write(one: _Read, probs_u8: Pixels, pred_mask: Pixels) -> None:
            what = (one.item, one.size, one.shown, probs_u8, pred_mask)
            writing.append((one.item, pool.submit(outputs.write, *what)))

        batch: list[tuple[_Read, Window]] = []
        queue: deque[tuple[_Read, Window]] = deque()
        ended = False
        while not ended or queue:
            while len(queue) < batch_size and not ended:
                match take():
                    case None:
                        ended = True
                    case str(name):
                        yield name
                    case one:
                        queue.extend((one, window) for window in one.windows)
            batch = [queue.popleft() for _ in range(min(batch_size, len(queue)))]
            if not batch:
                break
            if overlap:
                read_ahead()
            logits = forward(_cut(batch, source, pool))
            if source.patches is None:
                parts = chain.from_iterable(
                    zip(probs, masks, strict=True)
                    for _, probs, masks in probabilities(logits, source.rule.threshold)
                )
                for (one, _), (probs_u8, pred_mask) in zip(batch, parts, strict=True):
                    write(one, probs_u8, pred_mask)
            else:
                for (one, _), own in zip(batch, logits.float().cpu().numpy(), strict=True):
                    one.logits.append(own)
                    if len(one.logits) == len(one.windows):
                        write(one, *_stitched(one, source))
            del logits, batch
            if not overlap:
                read_ahead()
            yield from written(AHEAD * batch_size if overlap else 0)
            if not overlap:
                for _, future in reading:
                    future.exception()  # wait: the next batch takes all cores
        yield from written(0)


def _read(item: Item, source: Source, overlays: bool) -> _Read:
    """Read an image, check it, and bring it to the network's size unless it is cut."""
    try:
        pixels = with_channels(item.read(), source.channels)
    except OSError as problem:
        raise InputError(
            f"{item.name}: cannot be read ({problem.strerror or problem}); let your user read it, "
            "or copy it anew"
        ) from None
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels != source.channels:
        raise InputError(
            f"{item.name}: has {channels} channels, and the network takes {source.channels}; "
            "convert it to what the network was trained on"
        )
    size = pixels.shape[:2]
    windows = tile_windows(size[1], size[0], source.patches, item.name)
    shown = shrink(as_rgb(pixels))[0] if overlays else None
    if source.patches is None:
        pixels = windows[0].resized(pixels, source.height, source.width)
    return _Read(item, size, shown, pixels, windows)


def _cut(batch: Sequence[tuple[_Read, Window]], source: Source, pool: ThreadPoolExecutor) -> Pixels:
    """What the network sees: (N, H, W, C)."""

    def one(pair: tuple[_Read, Window]) -> Pixels:
        read, window = pair
        assert read.pixels is not None
        if source.patches is None:
            return read.pixels
        return window.resized(read.pixels, source.height, source.width)

    cut = [*pool.map(one, batch)]
    for read, window in batch:
        if window is read.windows[-1]:
            read.pixels = None
    found: Pixels = np.stack(cut)
    return found


def _stitched(one: _Read, source: Source) -> tuple[Pixels, Pixels]:
    """Probabilities (K, H, W) as bytes and class ids (H, W) of a tiled image.

    Logits of the whole image, of four bytes a class, are never held.
    """
    places = [packed_place(window, source.height, source.width) for window in one.windows]
    bands = [
        (probs[0], masks[0])
        for band in blend_bands(one.logits, places)
        for _, probs, masks in probabilities(torch.from_numpy(band)[None], source.rule.threshold)
    ]
    one.logits.clear()
    probs_u8 = np.concatenate([probs for probs, _ in bands], axis=1)
    return probs_u8, np.concatenate([masks for _, masks in bands])
