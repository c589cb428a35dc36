"""Plots as SVG that take the colours of the page around them."""

import io
import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's colours: distinct to colour-blind readers, legible on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c00", "#7f7f7f")
# Stands for the page's text colour until `to_svg` replaces it.
INK = "#010203"

FINER = re.compile(r"(\.\d\d)\d+")
"""Digits of a coordinate that are too fine to see and only make the page large."""
MOST_DOTS, MOST_IN_ALL = 1000, 10_000
"""Images that a row of a plot shows one by one, and all rows; of more, a random sample."""


def boxes(names: Sequence[str], values: Sequence[NDArray[np.float64]], label: str) -> Figure:
    """A row for each name: the box holds the middle half, a dot is an image.

    Args:
        names: of the rows.
        values: of each row, one an image.
        label: of the axis.
    """
    figure, axes = make_axes(7.2, 0.9 + 0.6 * len(names))
    rng = np.random.default_rng(0)
    most = min(MOST_DOTS, MOST_IN_ALL // max(1, len(names)))
    for at, part in enumerate(values):
        colour = COLOURS[at % len(COLOURS)]
        shown = part if len(part) <= most else rng.choice(part, most, replace=False)
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


def make_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure in inches with one panel whose rows are named at the left."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    style(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def style(axes: Axes) -> None:
    """Give a panel the page's colours, two spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.xaxis.label.set_fontsize(9)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)


def to_svg(figure: Figure) -> str:
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
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: FINER.sub(r"\1", found[0]), svg)
    # The page sets the size; the view box keeps the proportions.
    for side in ("width", "height"):
        svg = re.sub(rf' {side}="[\d.]+pt"', "", svg, count=1)
    return svg


def as_file(svg: str) -> str:
    """A plot of `to_svg` as a file of its own: black on white, as wide as it was drawn for."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found
    width, height = (round(float(side) * 4 / 3) for side in found.groups())  # points to pixels
    look = f'width="{width}" height="{height}" style="background: #fff; color: #1f2328"'
    return svg.replace("<svg", f"<svg {look}", 1)
