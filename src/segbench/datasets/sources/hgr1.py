"""`hgr1`: 899 images of 25 hand gestures by 12 people.

The hand is black in the masks, 1-bit or RGBA, whose alpha channel carries nothing. One person's
hands and rooms look alike, so a person is a group; gestures are strata.
"""

import re
from dataclasses import replace

from segbench.datasets.canonical import Info, Task
from segbench.datasets.fetching import Archive
from segbench.datasets.mask_values import by_threshold
from segbench.datasets.pairs import Pair, files_of, find_pairs, read_pairs
from segbench.errors import InputError
from segbench.params.datasets import Hgr1

INFO = Info(
    name="hgr1",
    classes=("background", "hand"),
    licence="none stated; published for research",
    redistributable=False,
    citation=(
        "Kawulok, Kawulok, Nalepa, Smolka, Self-adaptive algorithm for segmenting skin regions, "
        "EURASIP Journal on Advances in Signal Processing 2014:170, doi:10.1186/1687-6180-2014-170"
    ),
    colours=("#000000", "#e69f00"),
    foreground=(0.05, 0.6),
    published=899,
)
PAGE = "https://sun.aei.polsl.pl/~mkawulok/gestures/"
ARCHIVES = (
    Archive("hgr1_images.zip", (f"{PAGE}hgr1_images.zip",), None, PAGE, tried=False),
    Archive("hgr1_skin.zip", (f"{PAGE}hgr1_skin.zip",), None, PAGE, tried=False),
)
# <gesture>_<set>_hgr1_id<person>_<shot>
NAME = re.compile(r"(?P<gesture>[^_]+)_[^_]+_hgr1_id(?P<person>\d+)_\d+")
THRESHOLD = 128


def info(params: Hgr1) -> Info:
    """What is known of the dataset."""
    return INFO


def tasks(params: Hgr1) -> list[Task]:
    """Tasks that read the images."""
    folder = files_of(params, ARCHIVES)
    pairs = find_pairs(folder, "**/original_images/{id}.*", "**/skin_masks/{id}.*")
    decode = by_threshold(THRESHOLD, invert=True)
    return read_pairs([_named(pair) for pair in pairs], decode, params.limits)


def _named(pair: Pair) -> Pair:
    match = NAME.fullmatch(pair.id)
    if not match:
        raise InputError(
            f"{pair.image}: not named <gesture>_<set>_hgr1_id<person>_<shot>, as HGR1's images "
            "are; take the file away or use dataset.name: folder"
        )
    return replace(pair, group=f"person{match['person']}", stratum=match["gesture"])
