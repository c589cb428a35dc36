"""`oxford-iiit-pet`: 7,349 photographs of 37 breeds with trimaps, JPEG of many sizes.

A handful of the official `.jpg` files are PNG or GIF, grey, with a palette or an alpha channel.
The published lists name 7,349 of 7,390 images and divide them into training and test.
"""

import re
from dataclasses import replace
from pathlib import Path

from segbench.datasets.canonical import DatasetInfo, SampleReader
from segbench.datasets.fetching import Archive
from segbench.datasets.mask_values import MaskEncoding, by_values
from segbench.datasets.pairs import Pair, files_of, find_pairs
from segbench.datasets.reading import Reading, read_pairs
from segbench.errors import InputError
from segbench.images import IGNORE
from segbench.params.datasets import OxfordIIITPet

PAGE = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
BASES = (f"{PAGE}data/", "https://thor.robots.ox.ac.uk/pets/")
ARCHIVES = (
    Archive(
        name="images.tar.gz",
        urls=tuple(f"{base}images.tar.gz" for base in BASES),
        checksum="sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
        page=PAGE,
        tried=False,
    ),
    Archive(
        name="annotations.tar.gz",
        urls=tuple(f"{base}annotations.tar.gz" for base in BASES),
        checksum="sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
        page=PAGE,
        tried=False,
    ),
)
LISTS = {"trainval.txt": "train", "test.txt": "test"}
PET, BACKGROUND, BORDER = 1, 2, 3
BORDER_CLASS = {"ignored": IGNORE, "pet": 1, "background": 0}


def info(params: OxfordIIITPet) -> DatasetInfo:
    """What is known of the dataset."""
    return DatasetInfo(
        name="oxford-iiit-pet",
        classes=("background", "pet") + (("border",) if params.task == "trimap" else ()),
        licence="CC BY-SA 4.0; the photographs belong to their owners",
        # The archive's own README allows research only, and the owners never agreed.
        redistributable=False,
        citation="Parkhi, Vedaldi, Zisserman, Jawahar, Cats and Dogs, CVPR 2012",
        colours=("#000000", "#56de78", "#e69f00"),
        foreground=(0.15, 0.65),
        published=7349,
    )


def encoding(params: OxfordIIITPet) -> MaskEncoding:
    """How its masks are stored."""
    border = 2 if params.border is None else BORDER_CLASS[params.border]
    return by_values({BACKGROUND: 0, PET: 1, BORDER: border})


def readers(params: OxfordIIITPet) -> list[SampleReader]:
    """Readers of the listed photographs, or all where the lists are not there."""
    folder = files_of(params, ARCHIVES)
    pairs = find_pairs(folder, "**/images/{id}.jpg", "**/annotations/trimaps/{id}.png")
    split_of = _read_lists(folder)
    if split_of:
        pairs = [pair for pair in pairs if pair.id in split_of]
    named = [_named(pair, split_of) for pair in pairs]
    return read_pairs(named, Reading(encoding(params), params.limits))


def _read_lists(folder: Path) -> dict[str, str]:
    """train or test by id; empty if the lists are not there."""
    found = {name: sorted(folder.rglob(f"annotations/{name}")) for name in LISTS}
    return {
        line.split()[0]: LISTS[name]
        for name, paths in found.items()
        for path in paths[:1]
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }


def _named(pair: Pair, split_of: dict[str, str]) -> Pair:
    """The breed is the name without its number."""
    match = re.fullmatch(r"(.+)_\d+", pair.id)
    if not match:
        raise InputError(
            f"{pair.image}: not named <breed>_<number>, as the photographs of Oxford-IIIT Pet are; "
            "take the file away or use dataset.name: folder"
        )
    return replace(pair, stratum=match[1], split=split_of.get(pair.id, ""))
