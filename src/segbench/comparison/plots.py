"""Plots of the report, as SVG that takes the colours of the page around it."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segbench.comparison.statistics.differences import Interval
from segbench.report.svg import COLOURS, INK, boxes, make_axes, style, to_svg

MARKERS = "os^Dv<>pPXh*d"
"""A shape for each round through the colours; of more than 104 candidates, some look alike."""
NARROW = 5
"""A range over less than such a factor is shown on a linear axis."""
FEW_EPOCHS, FEW_RUNS = 20, 12
"""Up to which learning curves have a dot for each epoch, and broad lines."""
MOST_IN_LEGEND = 16
"""Candidates that a legend names."""
MOST_POINTS = 10_000
"""Of all learning curves in a panel; of more epochs, every second, third ... is drawn."""


def means(scores: Mapping[str, Interval], seeds: Sequence[Sequence[float]], label: str) -> str:
    """Mean score of each candidate with its interval; a dot for each seed.

    Args:
        scores: by alias.
        seeds: means of each candidate's seeds, in the same order.
        label: of the axis.
    """
    figure, axes = make_axes(7.2, 0.9 + 0.5 * len(scores))
    for at, (score, dots) in enumerate(zip(scores.values(), seeds, strict=True)):
        colour = COLOURS[at % len(COLOURS)]
        axes.plot([score.low, score.high], [at, at], color=colour, linewidth=2.5)
        axes.plot(dots, [at] * len(dots), "o", color=colour, alpha=0.45, markersize=5)
        axes.plot(score.mean, at, "D", color=colour, markersize=7)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlabel(label)
    return to_svg(figure)


def forest(
    blocks: Mapping[str, Sequence[tuple[str, Interval, bool]]], matters: float, label: str
) -> str:
    """Differences with their intervals: a block for each candidate.

    Args:
        blocks: by candidate, rows of a name, a difference, and whether it is a mean of the others.
        matters: the smallest difference that matters; what is less is shaded.
        label: of the axis.
    """
    number = sum(len(rows) + 1 for rows in blocks.values())
    figure, axes = make_axes(7.2, 0.9 + 0.24 * number)
    known = [one for rows in blocks.values() for _, one, _ in rows]
    ends = np.array([[one.mean, one.low, one.high] for one in known])
    ends = np.append(ends[np.isfinite(ends)], [-matters, matters])
    room = 0.03 * float(np.ptp(ends))
    low, high = float(ends.min()) - room, float(ends.max()) + room
    axes.axvspan(-matters, matters, color=INK, alpha=0.08, linewidth=0)
    axes.axvline(0, color=INK, alpha=0.5, linewidth=1)
    at, names = 0, {}
    for block, (alias, rows) in enumerate(blocks.items()):
        colour = COLOURS[(block + 1) % len(COLOURS)]  # the first is the champion's
        names[at] = alias
        for name, one, is_mean in rows:
            at += 1
            names[at] = name
            # What nothing bounds goes beyond the edge.
            bounds = np.clip([one.low, one.high], low - 1, high + 1)
            axes.plot(bounds, [at, at], color=colour, linewidth=3 if is_mean else 1.5)
            marker = "D" if is_mean else "o"
            axes.plot(one.mean, at, marker, color=colour, markersize=6 if is_mean else 4)
        at += 1
    axes.set_yticks(list(names), list(names.values()))
    for place, text in zip(names, axes.get_yticklabels(), strict=True):
        text.set_fontweight("bold" if names[place] in blocks else "normal")
    axes.set_xlim(low, high)
    axes.set_ylim(number - 0.5, -0.8)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    return to_svg(figure)


def pareto(
    scores: Mapping[str, Interval],
    expenses: Mapping[str, Sequence[float | None]],
    label: str,
    lower_is_better: bool = False,
) -> str:
    """Score against each expense; the line joins the Pareto front.

    Args:
        scores: by alias.
        expenses: of each candidate, in the same order, by label; left out where one is unknown.
        label: of the scores' axis.
        lower_is_better: of the scores.
    """
    known = {
        name: [float(cost) for cost in costs if cost is not None]
        for name, costs in expenses.items()
        if None not in costs
    }
    num_rows = -(-len(known) // 4)
    figure = Figure(
        figsize=(11.5, 2.9 * num_rows + _legend_height(len(scores))), layout="constrained"
    )
    panels = figure.subplots(num_rows, 4, squeeze=False)
    for axes in panels.flat[len(known) :]:
        axes.set_visible(False)
    for axes, (name, costs) in zip(panels.flat, known.items(), strict=False):
        _plot_expense(axes, scores, costs, lower_is_better)
        axes.set_xlabel(name)
    for axes in panels[:, 0]:
        axes.set_ylabel(label, color=INK, fontsize=9)
    _add_legend(figure, panels.flat[0])
    return to_svg(figure)


def _plot_expense(
    axes: Axes, scores: Mapping[str, Interval], costs: Sequence[float], lower_is_better: bool
) -> None:
    style(axes)
    points = sorted(zip(costs, [score.mean for score in scores.values()], strict=True))
    best = (np.minimum if lower_is_better else np.maximum).accumulate([one for _, one in points])
    front = [pair for pair, top in zip(points, best, strict=True) if pair[1] == top]
    axes.plot(*zip(*front, strict=True), color=INK, alpha=0.35, linewidth=1, zorder=1)
    for at, (cost, (alias, score)) in enumerate(zip(costs, scores.items(), strict=True)):
        colour, marker = COLOURS[at % len(COLOURS)], MARKERS[at // len(COLOURS) % len(MARKERS)]
        axes.plot([cost] * 2, [score.low, score.high], color=colour, alpha=0.4)
        axes.plot(cost, score.mean, marker, color=colour, label=alias, linewidth=0)
    least, most = points[0][0], points[-1][0]
    if most < NARROW * least:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    elif least > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5), numticks=6))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _legend_height(entries: int) -> float:
    """Inches that a legend takes beyond two rows, for which panels have room."""
    return 0.2 * max(0, -(-entries // 4) - 2)


def _add_legend(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, of the labels in one of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(4, len(labels)),
        frameon=False,
        labelcolor=INK,
    )


def curves(aliases: Sequence[str], histories: Sequence[tuple[str, pd.DataFrame]]) -> str:
    """Scores and losses over the epochs, a line for each run.

    Args:
        aliases: in the order of their colours.
        histories: the alias and the epochs of each run.
    """
    figure = Figure(figsize=(9.6, 6.2 + _legend_height(len(aliases))), layout="constrained")
    panels = figure.subplots(2, 2)
    titles = {
        "val_dice_per_image": "validation dice per image",
        "val_accuracy_micro": "validation accuracy of pixels",
        "train_loss": "training loss",
        "val_loss": "validation loss",
    }
    stride = -(-sum(len(history) for _, history in histories) // MOST_POINTS)
    for axes, (column, title) in zip(panels.flat, titles.items(), strict=True):
        style(axes)
        labelled: set[str] = set()
        for alias, whole in histories:
            history = whole.iloc[(len(whole) - 1) % stride :: stride]  # the last is one of them
            axes.plot(
                history["epoch"] + 1,
                history[column],
                color=COLOURS[aliases.index(alias) % len(COLOURS)],
                marker="o" if len(whole) <= FEW_EPOCHS and stride == 1 else "",
                markersize=3,
                linewidth=1.5 if len(histories) <= FEW_RUNS else 0.8,
                label=None if alias in labelled else alias,
            )
            labelled.add(alias)
        axes.set_xlabel("epoch")
        axes.set_title(title, fontsize=10, color=INK)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    _add_legend(figure, panels[0, 0])
    return to_svg(figure)


def gains(
    aliases: Sequence[str],
    points: Mapping[str, Sequence[tuple[float, Interval]]],
    label: str,
) -> str:
    """Score against the number of training groups, with intervals; a line for each candidate.

    Args:
        aliases: in the order of their colours.
        points: of those that have a learning curve: training groups and the score after them.
        label: of the scores' axis.

    Returns:
        Nothing where no candidate has a curve.
    """
    if not points:
        return ""
    figure = Figure(figsize=(8.6, 3.4 + _legend_height(len(points))), layout="constrained")
    axes = figure.subplots()
    style(axes)
    for alias, own in points.items():
        colour = COLOURS[aliases.index(alias) % len(COLOURS)]
        for number, score in own:
            axes.plot([number] * 2, [score.low, score.high], color=colour, alpha=0.4)
        means = [score.mean for _, score in own]
        axes.plot([number for number, _ in own], means, "o-", color=colour, label=alias)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.set_xlabel("training groups")
    axes.set_ylabel(label, color=INK, fontsize=9)
    _add_legend(figure, axes)
    return to_svg(figure)


def spread(scores: Mapping[str, NDArray[np.float64]]) -> str:
    """Test score of every image, by candidate."""
    values = [own[~np.isnan(own)] for own in scores.values()]
    return to_svg(boxes(list(scores), values, "test score of each image, mean over seeds"))


def profiles(
    scores: Mapping[str, NDArray[np.float64]], label: str, lower_is_better: bool = False
) -> str:
    """Share of the images that score at least so much, a line for each candidate (performance
    profiles, Dolan and More 2002); at most so much, where lower is better.

    Args:
        scores: by alias, one an image; NaN where it has none.
        label: of the axis of scores.
        lower_is_better: the axis ends where all but the worst twentieth of the images have.
    """
    figure, axes = make_axes(7.2, 3.2)
    axes.spines["left"].set_visible(True)
    most = np.nanquantile(np.stack([*scores.values()]), 0.95) if lower_is_better else 1.0
    at = np.linspace(0, max(float(most), 1e-9), 201)
    for number, (alias, own) in enumerate(scores.items()):
        known = np.sort(own[~np.isnan(own)])
        share = share_of_images(known, at, lower_is_better)
        rounds, colour = divmod(number, len(COLOURS))
        style_of_line = ("-", "--", "-.", ":")[rounds % 4]
        axes.plot(at, share, style_of_line, color=COLOURS[colour], linewidth=1.6, label=alias)
    axes.set_xlim(0, at[-1])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(label)
    axes.set_ylabel("share of images", color=INK, fontsize=9)
    if len(scores) <= MOST_IN_LEGEND:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return to_svg(figure)


def share_of_images(
    known: NDArray[np.float64], at: NDArray[np.float64], lower_is_better: bool
) -> NDArray[np.float64]:
    """Share of images, by ascending score, that score as well as each of some scores or better."""
    worse = np.searchsorted(known, at - 1e-12, side="left")
    if lower_is_better:
        worse = len(known) - np.searchsorted(known, at + 1e-12, side="right")
    return np.asarray(1 - worse / max(1, len(known)))
