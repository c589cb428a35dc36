"""How the pages of comparisons write numbers."""

from collections.abc import Callable
from functools import partial

import numpy as np

from segbench.comparison.leaderboard import Leaderboard
from segbench.comparison.published import chance_text
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.verdict import p_text


def _bounds(value: Interval, form: str) -> str:
    return "-" if np.isnan(value.low) else f"{form.format(value.low)} to {form.format(value.high)}"


def in_words(metric: str) -> str:
    """A metric's name as the field writes it: `boundary IoU` of `boundary_iou`."""
    words = metric.replace("hausdorff95", "Hausdorff 95").split("_")
    return " ".join("IoU" if word == "iou" else word for word in words)


FILTERS: dict[str, Callable[..., str]] = {
    "bounds": partial(_bounds, form="{:.3f}"),
    "signed_bounds": partial(_bounds, form="{:+.3f}"),
    "heading": in_words,
    "heading_micro": lambda metric: f"{in_words(metric)}, micro",
    "share": lambda value: "-" if np.isnan(value) else f"{100 * value:.0f} %",
    "share_bounds": lambda value: (
        "-" if np.isnan(value.low) else f"{100 * value.low:.0f} to {100 * value.high:.0f} %"
    ),
    "p": p_text,
    "rule_heading": lambda rule, metric: f"{metric}, {rule}",
    "chance": chance_text,
    "groups_of": "{} groups".format,
    "found": lambda value: f"{value:.3f}" if np.isfinite(value) else "none",
    "score4": "{:.4f}".format,
}


def places(board: Leaderboard) -> Callable[[float], str]:
    """Where a score lies between the lowest and the highest bound of all, in CSS."""
    bounds = np.array([[row.test.low, row.test.high] for row in board.rows])
    if np.isnan(bounds).all():
        return "{}".format
    low, high = np.nanmin(bounds), np.nanmax(bounds)
    wide = max(high - low, 1e-9)
    return lambda score: f"{100 * (score - low) / wide:.1f}%"
