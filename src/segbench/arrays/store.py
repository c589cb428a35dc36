"""Packed arrays: the splits as a few memory-mapped uint8 files."""

import json
import mmap
import os
from dataclasses import asdict, dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from segbench.datasets.canonical import DatasetInfo, read_info, read_table
from segbench.images import Pixels


@dataclass(frozen=True)
class Header:
    """Properties shared by all splits of a packed dataset.

    Attributes:
        dataset: information on the dataset.
        height, width: of every image, in pixels.
        channels: 3 (RGB), 1 (grey) or the number of other bands.
        digest: sha256 of the canonical dataset's samples.csv, which holds a hash of every sample.
    """

    dataset: DatasetInfo
    height: int
    width: int
    channels: int
    digest: str

    @property
    def num_outputs(self) -> int:
        """Channels of the logits: one for a single class against the background, else one each."""
        return self.dataset.scheme.num_outputs


@dataclass(frozen=True)
class Arrays:
    """The samples of one split.

    Attributes:
        images: (N, H, W, C) uint8.
        masks: (N, H, W) uint8 class ids, 255 where ignored.
        samples: N rows: id, group, stratum, and copy (0: the sample itself, from 1: augmented
            copies); for windows also the image they were cut from (`whole`) and their position in
            it (`top`, `left`, at the scale of these arrays).
    """

    images: Pixels
    masks: Pixels
    samples: pd.DataFrame

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle mapped arrays as their folder, which spawned workers then map themselves."""
        if isinstance(self.images.base, mmap.mmap):
            return open_arrays, (Path(self.images.filename).parent,)  # type: ignore[attr-defined]
        return Arrays, (self.images, self.masks, self.samples)

    def drop_page_cache(self) -> None:
        """Release the pages read so far, which would count as this process's memory."""
        for part in (self.images, self.masks):
            if isinstance(part, np.memmap):
                part._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


class ArrayWriter:
    """Context manager that writes the files of one split, in any order and from any thread.

    It avoids memory maps, whose pages would count as this process's memory.
    """

    def __init__(self, folder: Path, header: Header, samples: pd.DataFrame) -> None:
        folder.mkdir(parents=True)
        samples.to_csv(folder / "samples.csv", index=False, lineterminator="\n")
        size = (header.height, header.width)
        self._shapes = {"images": (*size, header.channels), "masks": size}
        self._files: dict[str, BufferedWriter] = {}
        self._starts: dict[str, int] = {}
        for name, shape in self._shapes.items():
            file = self._files[name] = open(folder / f"{name}.npy", "wb")  # noqa: SIM115
            fields = {"descr": "|u1", "fortran_order": False, "shape": (len(samples), *shape)}
            np.lib.format.write_array_header_1_0(file, fields)
            file.flush()
            self._starts[name] = file.tell()

    def write(self, at: int, image: Pixels, mask: Pixels) -> None:
        """Write row `at`: image (H, W, C) or (H, W), and mask (H, W)."""
        for name, pixels in (("images", image), ("masks", mask)):
            shape = self._shapes[name]
            data = np.ascontiguousarray(pixels).reshape(shape).tobytes()
            offset = self._starts[name] + at * len(data)
            while data:
                written = os.pwrite(self._files[name].fileno(), data, offset)
                data, offset = data[written:], offset + written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.fsync(file.fileno())
            file.close()


def open_arrays(folder: Path) -> Arrays:
    """Map the files of one split for reading."""
    return Arrays(
        np.load(folder / "images.npy", mmap_mode="r"),
        np.load(folder / "masks.npy", mmap_mode="r"),
        read_table(folder / "samples.csv"),
    )


def write_header(folder: Path, header: Header) -> None:
    """Write header.json, and dataset.json with descriptive information.

    Training depends only on header.json, so that correcting a licence does not retrain everything.
    """
    fields = asdict(header)
    told = {"dataset.json": fields.pop("dataset"), "header.json": fields}
    told["header.json"] |= asdict(header.dataset.scheme)
    for name, content in told.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def read_header(folder: Path) -> Header:
    """Read header.json and dataset.json."""
    fields = json.loads((folder / "header.json").read_text())
    del fields["num_classes"], fields["background"]
    return Header(dataset=read_info(folder), **fields)
