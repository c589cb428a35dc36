"""A few samples of each dataset, and how many images there will be."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from segbench.datasets.canonical import Sample, SampleReader
from segbench.datasets.download import source_of
from segbench.errors import InputError
from segbench.images import resize
from segbench.params import Params
from segbench.params.datasets import Dataset
from segbench.planning.stages import parts_of
from segbench.windows import tile_windows

TIMED_SAMPLES = 12


@dataclass(frozen=True)
class Images:
    """Numbers of images in a fold, or of patches where images are cut."""

    all: float
    val: float
    test: float
    copies: float

    @property
    def train(self) -> float:
        """Images that an epoch goes through."""
        return self.all - self.val - self.test + self.copies


@dataclass(frozen=True)
class Samples:
    """A few samples of a dataset, and how many there are of it.

    Attributes:
        some: read from the source.
        total: number of samples.
        read: seconds to read one.
    """

    some: list[Sample]
    total: int
    read: float


@dataclass(frozen=True)
class Data:
    """What training, validation and test are made of.

    Attributes:
        samples: of the dataset.
        images: how many there will be.
        sets: samples of each external set that stages need.
    """

    samples: Samples
    images: Images
    sets: dict[str, Samples]


def read_data(params: Params, stages: Collection[str]) -> Data:
    """Read a few samples of all that stages need.

    Raises:
        InputError: if not one sample of a dataset can be read.
    """
    samples = read_samples(params.dataset)
    needed = {parts_of(stage)[2] for stage in stages}
    sets = {
        name: read_samples(section)
        for name, section in params.comparison.external.items()
        if name in needed
    }
    return Data(samples, count_images(params, samples.some, samples.total), sets)


def read_samples(dataset: Dataset) -> Samples:
    """Read a few samples, and count them all.

    Raises:
        InputError: if not one can be read.
    """
    readers = source_of(dataset.name).readers(dataset)
    started = time.perf_counter()
    problems: list[str] = []
    every = chain.from_iterable(_readable(reader, problems) for reader in readers)
    some = list(islice(every, TIMED_SAMPLES))
    if not some:
        first = problems[0] if problems else "it holds none"
        raise InputError(f"{dataset.name}: not one sample can be read; the first: {first}")
    read = (time.perf_counter() - started) / len(some)
    return Samples(some, sum(reader.count for reader in readers), read)


def _readable(reader: SampleReader, problems: list[str]) -> list[Sample]:
    """The samples of a reader; none if they are unusable, with the problem added to those found."""
    try:
        return list(reader.read())
    except InputError as problem:
        problems.append(str(problem))
        return []


def count_images(params: Params, samples: list[Sample], total: int) -> Images:
    """Estimate the numbers from the params and, for patches, from the sizes of a few samples."""
    chosen = params.augment
    cut = [
        len(tile_windows(one.mask.shape[1], one.mask.shape[0], chosen.patches, one.id))
        for one in samples
    ]
    every = total * float(np.mean(cut))
    # What was published of a predefined split is not known before it is read.
    test = every * (params.split.test_share or 1 / max(params.split.num_folds, 2))
    val = every * params.split.val_share
    return Images(every, val, test, chosen.copies * (every - val - test))


def seconds_to_pack(params: Params, samples: Samples) -> float:
    """Seconds to resize a sample."""
    started = time.perf_counter()
    for sample in samples.some:
        resize(sample.image, sample.mask, params.augment.height, params.augment.width)
    return (time.perf_counter() - started) / len(samples.some)


def seconds_to_augment(params: Params, samples: Samples) -> float:
    """Seconds that training waits for an image to be augmented."""
    from segbench.arrays.transforms import augment_sample, build_pipeline
    from segbench.devices import resolve

    if not params.augment.online or resolve(params.hardware).workers:
        return 0.0  # made beforehand, or beside
    pipeline, size = build_pipeline(params.augment), (params.augment.height, params.augment.width)
    small = [resize(sample.image, sample.mask, *size) for sample in samples.some]
    started = time.perf_counter()
    for number, (image, mask) in enumerate(small):
        augment_sample(pipeline, image.reshape(*size, -1), mask, (number,))
    return (time.perf_counter() - started) / len(small)
