"""Plots of the report, as SVG that takes the colours of the page around it."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("svg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segbench.standings import Row

# Okabe and Ito's colours, told apart by colour-blind readers, legible on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c00", "#7f7f7f")
# Stands for the page's text colour until `_svg` replaces it.
INK = "#010203"
MARKERS = "os^D"
"""A shape for each round through the colours."""
NARROW = 5
"""A range over less than such a factor is shown on a linear axis."""
FEW_EPOCHS, FEW_RUNS = 20, 12
"""Up to which learning curves have a dot for each epoch, and broad lines."""
FINER = re.compile(r"(\.\d\d)\d+")
"""Digits of a coordinate that nobody can see, and that make a page large."""
MOST_DOTS = 1000
"""Images that a plot shows one by one; of more, a sample."""


def means(rows: Sequence["Row"], metric: str, confidence: float) -> str:
    """Mean test score of each candidate with its interval; a dot for each seed."""
    figure, axes = _axes(7.2, 0.9 + 0.5 * len(rows))
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
    return _svg(figure)


def pareto(
    rows: Sequence["Row"], expenses: Mapping[str, Sequence[float | None]], metric: str
) -> str:
    """Test score against each expense; the line joins what no other beats in both."""
    known = {name: costs for name, costs in expenses.items() if None not in costs}
    figure, panels = plt.subplots(
        -(-len(known) // 4), 4, figsize=(11.5, 2.9 * -(-len(known) // 4)), layout="constrained"
    )
    for axes in panels.flat[len(known) :]:
        axes.set_visible(False)
    for axes, (name, costs) in zip(panels.flat, known.items(), strict=False):
        _style(axes)
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
    return _svg(figure)


def curves(aliases: Sequence[str], histories: Sequence[tuple[str, int, int, pd.DataFrame]]) -> str:
    """Scores and losses over the epochs, a line for each run."""
    figure, panels = plt.subplots(2, 2, figsize=(9.6, 6.2), layout="constrained")
    titles = {
        "val_dice_per_image": "validation dice per image",
        "val_accuracy_micro": "validation accuracy of pixels",
        "train_loss": "training loss",
        "val_loss": "validation loss",
    }
    for axes, (column, title) in zip(panels.flat, titles.items(), strict=True):
        _style(axes)
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
    return _svg(figure)


def spread(aliases: Sequence[str], scores: dict[str, NDArray[np.float64]]) -> str:
    """Test score of every image."""
    values = [scores[alias][~np.isnan(scores[alias])] for alias in aliases]
    return _svg(_boxes(aliases, values, "test score of each image, the mean over seeds"))


def by_split(measures: pd.DataFrame, column: str, label: str, splits: Sequence[str]) -> str:
    """How a measure of the samples is spread in each split."""
    values = [measures[column][measures["split"] == name].to_numpy() for name in splits]
    names = [f"{name} ({len(part)})" for name, part in zip(splits, values, strict=True)]
    return _svg(_boxes(names, values, label))


def _boxes(names: Sequence[str], values: Sequence[NDArray[np.float64]], label: str) -> Figure:
    """A row for each name: the box holds the middle half, a dot is an image."""
    figure, axes = _axes(7.2, 0.9 + 0.6 * len(names))
    rng = np.random.default_rng(0)
    for at, part in enumerate(values):
        colour = COLOURS[at % len(COLOURS)]
        shown = part if len(part) <= MOST_DOTS else rng.choice(part, MOST_DOTS, replace=False)
        heights = at + rng.uniform(-0.22, 0.22, len(shown))
        axes.plot(shown, heights, "o", color=colour, alpha=0.4, markersize=3, linewidth=0)
        axes.boxplot(
            part,
            positions=[at],
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            boxprops={"color": INK},
            whiskerprops={"color": INK},
            capprops={"color": INK},
            medianprops={"color": INK},
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    return figure


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height))
    _style(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.xaxis.label.set_fontsize(9)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element: text as text, no date, ids that repeat."""
    # Ids in one page must differ between plots, and repeat between runs.
    labels = [axes.get_xlabel() for axes in figure.axes]
    salt = f"segbench-{labels}-{figure.get_size_inches()}"
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(
            stream,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            metadata={"Date": None, "Creator": None},
        )
    plt.close(figure)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: FINER.sub(r"\1", found[0]), svg)
    # The page sets the size; the view box keeps the proportions.
    for side in ("width", "height"):
        svg = re.sub(rf' {side}="[\d.]+pt"', "", svg, count=1)
    return svg
