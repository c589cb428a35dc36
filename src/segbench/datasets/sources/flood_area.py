"""`flood-area`: 290 photographs of flooded land, JPEG of many sizes.

Masks have the grey edges of a lossy format, and a few differ from their image in size: by some
pixels (`dataset.limits.size_difference`) or, torn pairs, by a lot.
"""

from segbench.datasets.canonical import Info, Task
from segbench.datasets.fetching import Archive
from segbench.datasets.mask_values import by_threshold
from segbench.datasets.pairs import files_of, find_pairs, read_pairs
from segbench.params.datasets import FloodArea

INFO = Info(
    name="flood-area",
    classes=("background", "flood"),
    licence="CC0 1.0 by its Kaggle page; the origin of the photographs is not stated",
    redistributable=False,
    citation="Karim et al., Flood Area Segmentation, Kaggle, 2022",
    colours=("#000000", "#56b4e9"),
    foreground=(0.1, 0.8),
    published=290,
)
ARCHIVES = (
    Archive(
        name="flood-area-segmentation.zip",
        urls=(),
        checksum=None,
        page="https://www.kaggle.com/datasets/faizalkarim/flood-area-segmentation",
        tried=False,
    ),
)
THRESHOLD = 128


def info(params: FloodArea) -> Info:
    """What is known of the dataset."""
    return INFO


def tasks(params: FloodArea) -> list[Task]:
    """Tasks that read the photographs; they share no groups that are known."""
    pairs = find_pairs(files_of(params, ARCHIVES), "**/Image/{id}.*", "**/Mask/{id}.*")
    return read_pairs(pairs, by_threshold(THRESHOLD), params.limits)
