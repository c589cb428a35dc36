"""Tiling: the logits of windows of a large image, stitched together."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from segbench.arrays.store import Arrays
from segbench.images import Pixels
from segbench.windows import Logits, blend


class StitchedImages:
    """The images of a packed split as they were before tiling.

    They have the scale of the packed windows, whose samples give image and position (`whole`,
    `top`, `left`). Without tiling, every sample is an image.

    Attributes:
        samples: a row per image: id, group, stratum.
        is_tiled: whether samples are windows.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        table = arrays.samples
        self.is_tiled = "whole" in table
        if not self.is_tiled:
            table = table.assign(whole=table["id"], top=0, left=0)
        first = ~table["whole"].duplicated()
        self.samples = pd.DataFrame(
            {"id": table["whole"], "group": table["group"], "stratum": table["stratum"]}
        )[first].reset_index(drop=True)
        self._starts = [*np.flatnonzero(first), len(table)]
        self._tops, self._lefts = table["top"].to_numpy(int), table["left"].to_numpy(int)

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Pixels:
        """(H, W, C)."""
        return self._assemble(index, self._arrays.images)

    def mask(self, index: int) -> Pixels:
        """(H, W) class ids."""
        return self._assemble(index, self._arrays.masks)

    def masks(self) -> Iterator[Pixels]:
        """All masks, one at a time."""
        return map(self.mask, range(len(self)))

    def blend(self, batches: Iterable[Logits]) -> Iterator[tuple[Logits, Pixels]]:
        """Stitch the logits of windows, see `windows.blend`.

        Args:
            batches: logits (N, C, H, W) of all windows, in order.

        Yields:
            Logits (C, H, W) and mask (H, W) of each image, in order.
        """
        done = 0
        waiting: list[Logits] = []
        for logits in batches:
            waiting += [*logits]
            while done < len(self) and len(waiting) >= len(self._rows(done)):
                count = len(self._rows(done))
                rows = self._rows(done)
                places = [(int(self._tops[row]), int(self._lefts[row])) for row in rows]
                yield blend(waiting[:count], places), self.mask(done)
                del waiting[:count]
                done += 1
        assert done == len(self), "there are as many windows as were cut"

    def _rows(self, index: int) -> range:
        return range(self._starts[index], self._starts[index + 1])

    def _size(self, index: int) -> tuple[int, int]:
        rows = slice(self._starts[index], self._starts[index + 1])
        height, width = self._arrays.masks.shape[1:]
        return int(self._tops[rows].max()) + height, int(self._lefts[rows].max()) + width

    def _assemble(self, index: int, windows: Pixels) -> Pixels:
        if not self.is_tiled:
            whole = np.array(windows[index])
            self._arrays.drop_page_cache()
            return whole
        whole = np.empty((*self._size(index), *windows.shape[3:]), np.uint8)
        height, width = windows.shape[1:3]
        for row in self._rows(index):
            top, left = self._tops[row], self._lefts[row]
            whole[top : top + height, left : left + width] = windows[row]
        self._arrays.drop_page_cache()
        return whole
