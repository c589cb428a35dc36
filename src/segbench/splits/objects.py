"""Objects that are lost where masks are resized to the networks' size."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.datasets.canonical import DatasetInfo
from segbench.images import Pixels, read_pixels
from segbench.parallel import thread_map
from segbench.params.augment import Augment
from segbench.report.words import counted
from segbench.windows import pixels_kept, tile_windows

LEAST_KEPT = 0.5
"""Share of its foreground that a mask should keep."""


@dataclass
class LostObjects:
    """Masks that lose foreground at the networks' size, as they are added one after another.

    Attributes:
        params: the size, and the patches that images are cut into.
        info: of the dataset.
        kept: for each mask, the share that is kept of all foreground, and of each scored class; NaN
            where there was none.
    """

    params: Augment
    info: DatasetInfo
    kept: list[NDArray[np.float64]] = field(default_factory=list)

    def share_kept(self, mask: Pixels, id: str) -> NDArray[np.float64]:
        """(1 + F,) of one mask (H, W), see `kept`."""
        height, width = mask.shape
        windows = tile_windows(width, height, self.params.patches, id)
        before, after = pixels_kept(mask, windows, self.params.height, self.params.width)
        ids = list(self.info.scheme.scored)
        before, after = (np.append(part[ids].sum(), part[ids]) for part in (before, after))
        covered = sum(window.height * window.width for window in windows)
        scale = covered / (len(windows) * self.params.height * self.params.width)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(scale * after / before)

    def masks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the masks that lose all of a scored class, and of those that lose over half.

        A mask counts by the class of which it loses most.
        """
        kept = np.array([np.nan_to_num(one[1:], nan=1.0).min() for one in self.kept], np.float64)
        return np.flatnonzero(kept == 0), np.flatnonzero((kept > 0) & (kept < LEAST_KEPT))

    def by_class(self) -> dict[str, tuple[int, int, int]]:
        """Of each scored class: masks that lose all, over half of it, and that hold it."""
        names = self.info.scored
        kept = np.array(self.kept).reshape(-1, 1 + len(names))
        return {
            name: (
                int((kept[:, at] == 0).sum()),
                int(((kept[:, at] > 0) & (kept[:, at] < LEAST_KEPT)).sum()),
                int((~np.isnan(kept[:, at])).sum()),
            )
            for at, name in enumerate(names, start=1)
        }

    def describe(self, looked_at: str = "") -> str:
        """What is lost, and the way out; empty where nothing is.

        Args:
            looked_at: which masks were, if not all.
        """
        lost = {name: counts for name, counts in self.by_class().items() if counts[0] or counts[1]}
        if not lost:
            return ""
        none, little = (len(rows) for rows in self.masks())
        size = f"{self.params.width}x{self.params.height}"
        where = f"at {size}"
        way_out = "raise augment.height and width, or use augment.patches"
        if self.params.patches:
            where = f"in patches resized to {size}"
            way_out = "raise augment.height and width, or lower augment.patches to that size"
        of = "a class" if len(self.info.scored) > 1 else "the foreground"
        said = [
            f"{counted(number, 'mask')}{looked_at} lose{'s' * (number == 1)} {much} of {of}"
            for number, much in ((none, "all"), (little, "over half"))
            if number
        ]
        told = ""
        if len(self.info.scored) > 1:
            by_class = [
                f"{name}{f' all in {a}' if a else ''}{' and' if a and b else ''}"
                f"{f' over half in {b}' if b else ''} of {held}"
                for name, (a, b, held) in lost.items()
            ]
            told = f" ({', '.join(by_class)})"
        return (
            f"{' and '.join(said)} {where}{told}; {way_out}: what is lost is neither learnt "
            "nor scored"
        )


def lost_objects(
    dataset: Path, samples: pd.DataFrame, info: DatasetInfo, params: Augment
) -> LostObjects:
    """Resize all masks of a canonical dataset as the networks will see them.

    Args:
        dataset: its folder.
        samples: its samples.csv.
        info: of the dataset.
        params: the size and the patches.

    Raises:
        InputError: if an image is smaller than a patch.
    """
    lost = LostObjects(params, info)

    def work(row: tuple[str, str]) -> NDArray[np.float64]:
        id, mask = row
        return lost.share_kept(read_pixels(dataset / mask), id)

    rows = list(zip(samples["id"], samples["mask"], strict=True))
    lost.kept += thread_map(work, rows, "masks resized", len(rows))
    return lost
