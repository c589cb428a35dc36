"""In which order an epoch goes through the samples."""

import numpy as np
from numpy.typing import NDArray


class EpochOrder:
    """The samples of each epoch in their order, a function of (seed, epoch).

    Args:
        rows: (N,) indices of the samples.
        repeats: (N,) how often each comes in a pass, on average; in whole passes each comes so
            often, rounded up or down.
        seed: of the run.
        length: samples of an epoch, which may take several passes or part of one.
    """

    def __init__(
        self, rows: NDArray[np.int64], repeats: NDArray[np.float64], seed: int, length: int
    ) -> None:
        self.rows = rows
        self.repeats = repeats
        self.seed = seed
        self.length = length
        self._epoch = -1
        self._samples = self._again = rows

    def of(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The samples of an epoch, and how often each was there before in it."""
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            passes: list[NDArray[np.int64]] = []
            while sum(map(len, passes)) < self.length:
                passes.append(self._pass(rng))
            places = np.concatenate(passes)
            self._again = _times_before(places)
            self._samples, self._epoch = self.rows[places], epoch
        return self._samples, self._again

    def _pass(self, rng: np.random.Generator) -> NDArray[np.int64]:
        if (self.repeats == 1).all():
            return rng.permutation(len(self.rows))
        # One offset for all, so that the total is that of `repeats`, give or take one.
        until = np.floor(np.concatenate([[0.0], np.cumsum(self.repeats)]) + rng.random())
        return rng.permutation(np.repeat(np.arange(len(self.rows)), np.diff(until).astype(int)))


def _times_before(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) how often each of (N,) values stands further ahead."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    before = np.empty_like(order)
    before[order] = np.arange(len(values)) - np.repeat(first, counts)
    return before
