"""Plots of many candidates are drawn, and stay small enough to stand in one page."""

import numpy as np
import pandas as pd

from segbench.comparison import plots
from segbench.comparison.statistics.differences import Interval
from segbench.report.svg import COLOURS

ALIASES = [f"encoder_{at}" for at in range(100)]


def test_a_hundred_candidates_are_drawn_and_told_apart() -> None:
    scores = {alias: Interval(0.5 + at / 300, 0.4, 0.9) for at, alias in enumerate(ALIASES)}
    costs = {"parameters": [1.0 + at for at in range(100)], "ms": [2.0 + at for at in range(100)]}
    assert len(COLOURS) * len(plots.MARKERS) >= len(ALIASES)
    assert len(set(plots.MARKERS)) == len(plots.MARKERS)
    drawn = plots.pareto(scores, costs, "dice")
    assert all(f">{alias}<" in drawn for alias in ALIASES)
    values = np.random.default_rng(0).random((200, 4))
    names = ["val_dice_per_image", "val_accuracy_micro", "train_loss", "val_loss"]
    history = pd.DataFrame(values, columns=names).assign(epoch=np.arange(200))
    lines = plots.curves(ALIASES, [(alias, history) for alias in ALIASES for _ in range(5)])
    own = {alias: np.random.default_rng(1).random(3000) for alias in ALIASES}
    dots = plots.spread(own)
    rows = plots.means(scores, [[0.5] * 5] * 100, "dice")
    # The page is to stay below 6 MB, 2 of them pictures.
    assert sum(map(len, (drawn, lines, dots, rows))) < 3_500_000
