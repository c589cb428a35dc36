"""`isbi-2012`: 30 slices of an electron microscopy stack, 512x512 grey; membranes against cells.

Neighbouring slices show nearly the same, so blocks of them are groups, and each slice names the one
below it: a split leaves out slices that would touch another part of it.
"""

import io
from dataclasses import replace
from pathlib import Path

from segbench.datasets.canonical import DatasetInfo, SampleReader
from segbench.datasets.fetching import Archive
from segbench.datasets.image_files import UNREADABLE, read_bytes
from segbench.datasets.mask_files import MaskFile
from segbench.datasets.mask_values import MaskEncoding, by_threshold
from segbench.datasets.pairs import Pair, files_of, find_pairs
from segbench.datasets.reading import Reading, read_pairs
from segbench.errors import InputError
from segbench.images import open_image
from segbench.params.datasets import Isbi2012

NUM_SLICES = 30
INFO = DatasetInfo(
    name="isbi-2012",
    classes=("cell", "membrane"),
    licence="none stated; published for the challenge",
    redistributable=False,
    citation=(
        "Cardona et al., An Integrated Micro- and Macroarchitectural Analysis of the Drosophila "
        "Brain by Computer-Assisted Serial Section Electron Microscopy, PLoS Biology 8(10), 2010, "
        "doi:10.1371/journal.pbio.1000502; Arganda-Carreras et al., Frontiers in Neuroanatomy 9, "
        "2015, doi:10.3389/fnana.2015.00142"
    ),
    colours=("#000000", "#e69f00"),
    foreground=(0.1, 0.4),
    published=NUM_SLICES,
)
ARCHIVES = (
    Archive(
        name="ISBI-2012-challenge.zip",
        urls=("https://downloads.imagej.net/ISBI-2012-challenge.zip",),
        checksum=None,
        page="https://imagej.net/events/isbi-2012-segmentation-challenge",
        tried=False,
    ),
)
# Membranes are black.
THRESHOLD = 128


def info(params: Isbi2012) -> DatasetInfo:
    """What is known of the dataset."""
    return INFO


def encoding(params: Isbi2012) -> MaskEncoding:
    """How its masks are stored."""
    return by_threshold(THRESHOLD, invert=True)


def readers(params: Isbi2012) -> list[SampleReader]:
    """Readers of the slices, from the challenge's stacks or from single files."""
    folder = files_of(params, ARCHIVES)
    stacks = sorted(folder.rglob("train-volume.tif")) if folder.is_dir() else []
    if stacks:
        found = _pages(stacks[0])
    else:
        found = find_pairs(folder, "**/image/{id}.*", "**/label/{id}.*")
    wrong = next((pair for pair in found if not pair.id.isdecimal()), None)
    if wrong:
        raise InputError(
            f"{wrong.image}: not a slice of ISBI 2012, which are named by their numbers; "
            "take the file away or use dataset.name: folder"
        )
    there = {int(pair.id) for pair in found}
    pairs = [_named(pair, there, params.slices_per_block) for pair in found]
    return read_pairs(pairs, Reading(encoding(params), params.limits))


def _pages(images: Path) -> list[Pair]:
    """A pair for each page of the two stacks."""
    masks = images.with_name("train-labels.tif")
    counts = []
    for path in (images, masks):
        data = read_bytes(path)
        try:
            with open_image(io.BytesIO(data)) as stack:
                counts.append(getattr(stack, "n_frames", 1))
        except UNREADABLE as error:
            raise InputError(
                f"{path}: unreadable as a stack ({' '.join(str(error).split())}); replace the file"
            ) from None
    if counts[0] != counts[1]:
        raise InputError(
            f"{masks}: {counts[1]} pages, but {images.name} has {counts[0]}; "
            "both stacks must have as many, replace the file"
        )
    file = (MaskFile(masks),)
    return [Pair(str(page), images, file, page=page) for page in range(counts[0])]


def _named(pair: Pair, there: set[int], slices_per_block: int) -> Pair:
    number = int(pair.id)
    return replace(
        pair,
        id=f"slice{number:02d}",
        group=f"block{number // slices_per_block:02d}",
        previous=f"slice{number - 1:02d}" if number - 1 in there else "",
    )
