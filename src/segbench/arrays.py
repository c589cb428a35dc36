"""Packed arrays: what trains and tests, as a few uint8 files that are read by memory map."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.samples import Info, Pixels, read_info


@dataclass(frozen=True)
class Header:
    """What holds for all splits of a packed dataset.

    Attributes:
        dataset: what is known of the dataset.
        height, width: of every image, in pixels.
        channels: 3 (RGB) or 1 (grey).
        digest: sha256 of the canonical dataset's samples.csv, which holds a hash of every sample.
    """

    dataset: Info
    height: int
    width: int
    channels: int
    digest: str

    @property
    def num_outputs(self) -> int:
        """Channels of the logits: one for a single foreground class, else one a class."""
        return 1 if len(self.dataset.classes) == 2 else len(self.dataset.classes)


@dataclass(frozen=True)
class Arrays:
    """The samples of one split.

    Attributes:
        images: (N, H, W, C) uint8.
        masks: (N, H, W) uint8 class ids, 255 where ignored.
        samples: N rows: id, group, stratum, and copy (0: the sample itself, 1...: an augmented
            copy of it).
    """

    images: Pixels
    masks: Pixels
    samples: pd.DataFrame


def create(folder: Path, header: Header, samples: pd.DataFrame) -> Arrays:
    """Make the files of one split, pixels still zero; fill its arrays, then call `flush`."""
    folder.mkdir(parents=True)
    samples.to_csv(folder / "samples.csv", index=False, lineterminator="\n")
    shape = (len(samples), header.height, header.width)

    def make(name: str, shape: tuple[int, ...]) -> Pixels:
        return np.lib.format.open_memmap(folder / name, "w+", np.uint8, shape)

    return Arrays(make("images.npy", (*shape, header.channels)), make("masks.npy", shape), samples)


def flush(arrays: Arrays) -> None:
    """Bring the pixels of created arrays to disk."""
    for pixels in (arrays.images, arrays.masks):
        assert isinstance(pixels, np.memmap)
        pixels.flush()


def open_arrays(folder: Path) -> Arrays:
    """Map the files of one split for reading."""
    text = {"id": str, "group": str, "stratum": str}
    return Arrays(
        np.load(folder / "images.npy", mmap_mode="r"),
        np.load(folder / "masks.npy", mmap_mode="r"),
        pd.read_csv(folder / "samples.csv", dtype=text, keep_default_na=False),
    )


def write_header(folder: Path, header: Header) -> None:
    """Write header.json, and dataset.json with what is only told of the dataset.

    Apart, since training depends on the one; a licence put right must not train everything anew.
    """
    fields = asdict(header)
    told = {"dataset.json": fields.pop("dataset"), "header.json": fields}
    told["header.json"]["num_classes"] = len(header.dataset.classes)
    for name, content in told.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def read_header(folder: Path) -> Header:
    """Read header.json and dataset.json."""
    fields = json.loads((folder / "header.json").read_text())
    del fields["num_classes"]
    return Header(dataset=read_info(folder), **fields)
