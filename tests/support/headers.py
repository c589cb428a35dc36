"""A header of packed arrays that nobody packed."""

from segbench.arrays.store import Header
from segbench.datasets.canonical import DatasetInfo

INFO = DatasetInfo("made", ("background", "polyp"), "own", False, "")

HEADER = Header(INFO, 64, 96, 3, "0" * 64)
