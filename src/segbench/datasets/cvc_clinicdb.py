"""`cvc-clinicdb`: 612 colonoscopy frames of 29 sequences (CVC-612), 384x288.

Its frames are for research and education and are not segbench's to fetch: `dataset.source` names
a local copy. Frames of one sequence are near copies of each other, so a sequence is a group.
"""

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from segbench.datasets.pairs import by_threshold, find_pairs, read_image, read_mask
from segbench.errors import InputError
from segbench.params import CvcClinicDB
from segbench.samples import Info, Sample

INFO = Info(
    name="cvc-clinicdb",
    classes=("background", "polyp"),
    licence="research and education only",
    redistributable=False,
    citation=(
        "Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, "
        "Computerized Medical Imaging and Graphics 43, 2015"
    ),
)

NUM_FRAMES = 612
# Frames are numbered through; these are the first frames of the sequences 1 to 29.
SEQUENCE_STARTS = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)
# A few mask pixels are grey, at the edges only.
EDGE_THRESHOLD = 128


def sequence_of(frame: int) -> int:
    """Number of the sequence, 1 to 29, that a frame, 1 to 612, belongs to."""
    return bisect_right(SEQUENCE_STARTS, frame)


def info(params: CvcClinicDB) -> Info:
    """What is known of the dataset."""
    return INFO


def num_samples(params: CvcClinicDB) -> int:
    """How many frames there are."""
    return NUM_FRAMES


def read(params: CvcClinicDB) -> Iterator[Sample]:
    """Yield the frames below `params.source`, PNG or TIFF."""
    decode = by_threshold(EDGE_THRESHOLD)
    for pair in find_pairs(Path(params.source), "Original/{id}.*", "Ground Truth/{id}.*"):
        if not pair.id.isdecimal() or not 1 <= int(pair.id) <= NUM_FRAMES:
            raise InputError(
                f"{pair.image}: not a frame of CVC-ClinicDB, which are named 1 to {NUM_FRAMES}; "
                "take the file away or use dataset.name: folder"
            )
        yield Sample(
            id=f"{int(pair.id):03d}",
            image=read_image(pair.image),
            mask=decode(read_mask(pair.mask), pair.mask),
            group=f"seq{sequence_of(int(pair.id)):02d}",
            stratum="",
            source=str(pair.image),
        )
