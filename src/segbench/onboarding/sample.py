"""A sample of pairs, read as the section says: proof that it works, and what masks hold."""

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from segbench.datasets.canonical import SampleReader
from segbench.errors import InputError
from segbench.images import IGNORE, count_values
from segbench.onboarding.sizes import SizeTrial
from segbench.parallel import thread_map

_SIZES = re.compile(r"its mask is (\d+)x(\d+) but the image is (\d+)x(\d+)")


@dataclass
class SampleRead:
    """What came of reading a sample of pairs.

    Attributes:
        pixels: of each class id, ignored ones included.
        images: that hold each class id.
        trial: of the network's size.
        exif: images that have an EXIF orientation.
        other: of these, how much clearer edges would be in the other reading; see `Sample`.
        count: images that were read.
        problems: of pairs that cannot be used.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    trial: SizeTrial = field(default_factory=SizeTrial)
    exif: int = 0
    other: list[float] = field(default_factory=list)
    count: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def foreground(self) -> float:
        """Share of the labelled pixels that are of any class but the background."""
        labelled = sum(self.pixels.values()) - self.pixels[IGNORE]
        return 1 - self.pixels[0] / max(1, labelled)

    def size_differences(self) -> list[int]:
        """Of pairs whose mask is of another size, by how many pixels."""
        found = []
        for match in filter(None, map(_SIZES.search, self.problems)):
            width, height, image_width, image_height = map(int, match.groups())
            found.append(max(abs(width - image_width), abs(height - image_height)))
        return found


def read_sample(readers: list[SampleReader]) -> SampleRead:
    """Read pairs, and sum up what they hold."""
    found = SampleRead()
    for one in thread_map(_read, readers, "pairs", len(readers)):
        found.pixels.update(one.pixels)
        found.images.update(one.images)
        found.trial.merge(one.trial)
        found.exif += one.exif
        found.other += one.other
        found.count += one.count
        found.problems += one.problems
    return found


def _read(reader: SampleReader) -> SampleRead:
    found = SampleRead()
    try:
        samples = reader.read()
    except InputError as problem:
        found.problems.append(str(problem))
        return found
    for sample in samples:
        counts = count_values(sample.mask)
        present = np.flatnonzero(counts).tolist()
        found.pixels.update({one: int(counts[one]) for one in present})
        found.images.update(present)
        found.trial.add(sample.mask)
        found.exif += bool(sample.exif)
        found.other += [sample.exif_other] if sample.exif_other else []
        found.count += 1
    return found
