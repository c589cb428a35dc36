"""Plots of the report, as SVG that takes the colours of the page around it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segbench.comparison.leaderboard import Row
from segbench.report.svg import COLOURS, INK, boxes, make_axes, style, to_svg

MARKERS = "os^D"
"""A shape for each round through the colours."""
NARROW = 5
"""A range over less than such a factor is shown on a linear axis."""
FEW_EPOCHS, FEW_RUNS = 20, 12
"""Up to which learning curves have a dot for each epoch, and broad lines."""


def means(rows: Sequence["Row"], metric: str, confidence: float) -> str:
    """Mean test score of each candidate with its interval; a dot for each seed."""
    figure, axes = make_axes(7.2, 0.9 + 0.5 * len(rows))
    for at, row in enumerate(rows):
        colour = COLOURS[at % len(COLOURS)]
        axes.plot([row.test.low, row.test.high], [at, at], color=colour, linewidth=2.5)
        axes.plot(row.seeds, [at] * len(row.seeds), "o", color=colour, alpha=0.45, markersize=5)
        axes.plot(row.test.mean, at, "D", color=colour, markersize=7)
    axes.set_yticks(range(len(rows)), [row.alias for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(
        f"test {metric} per image: mean (diamond), {100 * confidence:g} % interval, seeds (dots)"
    )
    return to_svg(figure)


def pareto(
    rows: Sequence["Row"], expenses: Mapping[str, Sequence[float | None]], metric: str
) -> str:
    """Test score against each expense; the line joins what no other beats in both."""
    known = {name: costs for name, costs in expenses.items() if None not in costs}
    num_rows = -(-len(known) // 4)
    figure = Figure(figsize=(11.5, 2.9 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, 4)
    for axes in panels.flat[len(known) :]:
        axes.set_visible(False)
    for axes, (name, costs) in zip(panels.flat, known.items(), strict=False):
        style(axes)
        points = sorted(
            (float(cost or 0), row.test.mean) for cost, row in zip(costs, rows, strict=True)
        )
        best = np.maximum.accumulate([score for _, score in points])
        front = [pair for pair, top in zip(points, best, strict=True) if pair[1] >= top]
        axes.plot(*zip(*front, strict=True), color=INK, alpha=0.35, linewidth=1, zorder=1)
        for at, (cost, row) in enumerate(zip(costs, rows, strict=True)):
            colour, marker = COLOURS[at % len(COLOURS)], MARKERS[at // len(COLOURS)]
            axes.plot([cost] * 2, [row.test.low, row.test.high], color=colour, alpha=0.4)
            axes.plot(cost, row.test.mean, marker, color=colour, label=row.alias, linewidth=0)
        axes.set_xlabel(name)
        least, most = points[0][0], points[-1][0]
        if most < NARROW * least:
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        elif least > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5), numticks=6))
            axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    for axes in panels[:, 0] if panels.ndim > 1 else panels[:1]:
        axes.set_ylabel(f"test {metric}", color=INK, fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(
        *(handles, labels),
        loc="outside lower center",
        ncols=min(4, len(labels)),
        frameon=False,
        labelcolor=INK,
    )
    return to_svg(figure)


def curves(aliases: Sequence[str], histories: Sequence[tuple[str, int, int, pd.DataFrame]]) -> str:
    """Scores and losses over the epochs, a line for each run."""
    figure = Figure(figsize=(9.6, 6.2), layout="constrained")
    panels = figure.subplots(2, 2)
    titles = {
        "val_dice_per_image": "validation dice per image",
        "val_accuracy_micro": "validation accuracy of pixels",
        "train_loss": "training loss",
        "val_loss": "validation loss",
    }
    for axes, (column, title) in zip(panels.flat, titles.items(), strict=True):
        style(axes)
        for alias, seed, fold, history in histories:
            at = aliases.index(alias)
            first = (seed, fold) == next((s, f) for a, s, f, _ in histories if a == alias)
            axes.plot(
                history["epoch"] + 1,
                history[column],
                color=COLOURS[at % len(COLOURS)],
                marker="o" if len(history) <= FEW_EPOCHS else "",
                markersize=3,
                linewidth=1.5 if len(histories) <= FEW_RUNS else 0.8,
                label=alias if first else None,
            )
        axes.set_xlabel("epoch")
        axes.set_title(title, fontsize=10, color=INK)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        *(handles, labels),
        loc="lower center",
        ncols=min(4, len(labels)),
        frameon=False,
        labelcolor=INK,
        bbox_to_anchor=(0.5, -0.06 - 0.03 * (len(labels) // 5)),
    )
    return to_svg(figure)


def spread(aliases: Sequence[str], scores: dict[str, NDArray[np.float64]]) -> str:
    """Test score of every image."""
    values = [scores[alias][~np.isnan(scores[alias])] for alias in aliases]
    return to_svg(boxes(aliases, values, "test score of each image, the mean over seeds"))
