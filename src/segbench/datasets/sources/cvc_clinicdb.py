"""`cvc-clinicdb`: 612 colonoscopy frames of 29 sequences (CVC-612), 384x288, PNG or TIFF.

Frames of one sequence are near copies of each other, so a sequence is a group. The predefined split
is the one of the published MobileNetV2 U-Net, 490 / 61 / 61 single frames: for comparison with its
number, since it tears every sequence apart.
"""

from bisect import bisect_right
from dataclasses import replace

from segbench.datasets.canonical import DatasetInfo, SampleReader
from segbench.datasets.fetching import Archive
from segbench.datasets.mask_values import MaskEncoding, by_threshold
from segbench.datasets.pairs import Pair, files_of, find_pairs
from segbench.datasets.reading import Reading, read_pairs
from segbench.errors import InputError
from segbench.params.datasets import Published

NUM_FRAMES = 612
INFO = DatasetInfo(
    name="cvc-clinicdb",
    classes=("background", "polyp"),
    licence="research and education only",
    redistributable=False,
    citation=(
        "Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy: Validation "
        "vs. saliency maps from physicians, Computerized Medical Imaging and Graphics 43, 2015, "
        "doi:10.1016/j.compmedimag.2015.02.007"
    ),
    colours=("#000000", "#56de78"),
    foreground=(0.03, 0.25),
    published=NUM_FRAMES,
)
# The official form is a RAR archive behind a page; the standard library cannot unpack it.
ARCHIVES = (
    Archive(
        name="CVC-ClinicDB.rar",
        urls=(),
        checksum=None,
        page="https://polyp.grand-challenge.org/CVCClinicDB/",
        tried=False,
    ),
)
# Frames are numbered through; these are the first frames of the sequences 1 to 29.
SEQUENCE_STARTS = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)
# Of the published split: 61 frames each to validation and test, drawn from the sorted file names.
PUBLISHED_SEED = 42
HELD_OUT = NUM_FRAMES // 10
# A few mask pixels are grey, at the edges only.
EDGE_THRESHOLD = 128


def sequence_of(frame: int) -> int:
    """Number of the sequence, 1 to 29, that a frame, 1 to 612, belongs to."""
    return bisect_right(SEQUENCE_STARTS, frame)


def published_split() -> dict[int, str]:
    """train, val or test of each frame, 1 to 612, in the published split."""
    # Here, since it takes a second to import and no other dataset needs it.
    from sklearn.model_selection import train_test_split

    names = sorted(f"{frame}.png" for frame in range(1, NUM_FRAMES + 1))
    draw = {"test_size": HELD_OUT, "random_state": PUBLISHED_SEED}
    rest, val = train_test_split(names, **draw)
    train, test = train_test_split(rest, **draw)
    parts = {"train": train, "val": val, "test": test}
    return {int(name[:-4]): part for part, names in parts.items() for name in names}


def info(params: Published) -> DatasetInfo:
    """What is known of the dataset."""
    return INFO


def encoding(params: Published) -> MaskEncoding:
    """How its masks are stored."""
    return by_threshold(EDGE_THRESHOLD)


def readers(params: Published) -> list[SampleReader]:
    """Readers of the frames."""
    found = find_pairs(files_of(params, ARCHIVES), "**/Original/{id}.*", "**/Ground Truth/{id}.*")
    split = published_split()
    pairs = [_named(pair, split) for pair in found]
    return read_pairs(pairs, Reading(encoding(params), params.limits))


def _named(pair: Pair, split: dict[int, str]) -> Pair:
    if not pair.id.isdecimal() or not 1 <= int(pair.id) <= NUM_FRAMES:
        raise InputError(
            f"{pair.image}: not a frame of CVC-ClinicDB, which are named 1 to {NUM_FRAMES}; "
            "take the file away or use dataset.name: folder"
        )
    frame = int(pair.id)
    group = f"seq{sequence_of(frame):02d}"
    return replace(pair, id=f"{frame:03d}", group=group, split=split[frame])
