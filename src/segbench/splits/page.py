"""The audit page: the split, what leaks through it, the masks, the images of each split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segbench.datasets.canonical import DatasetInfo
from segbench.params.split import Split
from segbench.report.drawing import class_colours
from segbench.report.links import link_to, picture_source
from segbench.report.render import write_page
from segbench.report.svg import boxes, to_svg
from segbench.splits.assign import SPLITS
from segbench.splits.balance import read_class_pixels
from segbench.splits.concerns import Concern, headline
from segbench.splits.likeness import Background
from segbench.splits.pictures import Finding, Shown

MOST_STRATA = 12
"""Strata that are listed in the open; more are folded away."""


@dataclass(frozen=True)
class Audit:
    """All that the page shows.

    `concerns` are in the order of their severity; `worst` is the fold whose pairs are shown, and
    `leak_list` the table of all pairs.
    """

    info: DatasetInfo
    params: Split
    scores: dict[str, dict[str, Any]]
    table: pd.DataFrame
    samples: pd.DataFrame
    measures: pd.DataFrame
    concerns: list[Concern]
    leaks: list[Finding]
    runners_up: Finding
    limit: float
    background: Background
    worst: int
    leak_list: Path
    masks: list[Finding]
    examples: list[Shown]
    skipped: list[str]
    pictures: str


def write_audit(audit: Audit, path: Path) -> None:
    """Write the audit page to `path`."""
    first = audit.table[audit.table["fold"] == 0].set_index("id")["split"]
    measures = audit.measures.assign(split=first.loc[audit.measures["id"]].to_numpy())
    measures["brightness"] = measures[["red", "green", "blue"]].mean(axis=1)
    has_background = audit.info.background is not None
    columns = {
        "brightness": "brightness (mean of all pixels, 0 to 255)",
        "contrast": "contrast (standard deviation of the thumbnail, 0 to 255)",
        **({"foreground": "share of foreground"} if has_background else {}),
    }
    by_split = measures.groupby("split")
    names = ["red", "green", "blue", "contrast"]
    names += ["foreground", "components"] if has_background else []
    numbers = audit.table["fold"].unique()
    pixels = read_class_pixels(audit.measures).sum(axis=0)
    size = audit.samples["width"].astype(str) + "x" + audit.samples["height"].astype(str)
    sizes = size.value_counts()
    colours = class_colours(audit.info.colours, audit.info.scheme)
    write_page(
        path,
        "splits/page.html.jinja",
        {
            "audit": audit,
            "headline": headline(audit.concerns),
            "absent": [
                *(f.name for f in audit.leaks if not f.count),
                *(f.name for f in audit.masks if not f.count),
            ],
            "folds": [(number, audit.scores[f"fold{number}"]) for number in numbers],
            "sides": [f"fold {number}" for number in numbers]
            if len(numbers) > 1
            else ["on both sides of the split"],
            "has_background": has_background,
            "splits": SPLITS,
            "legend": {
                name: colours[at]
                for at, name in enumerate(audit.info.classes)
                if at != audit.info.background
            },
            "class_shares": dict(zip(audit.info.classes, pixels / pixels.sum(), strict=True)),
            "strata": sorted(set(audit.samples["stratum"]) - {""}),
            "most_strata": MOST_STRATA,
            "statistics": {
                name: by_split.get_group(name)[names].agg(["mean", "std"]).fillna(0)
                for name in SPLITS
            },
            "measures": names,
            "plots": {
                label: plot_by_split(measures, column, label, SPLITS)
                for column, label in columns.items()
            },
            "sizes": list(sizes[:8].items()),
            "num_sizes": len(sizes),
            "values": audit.measures["mask_values"],
            "components": audit.measures["components"].describe().to_dict(),
            "between": float(audit.measures["mask_between"].mean()),
            "leak_list": link_to(audit.leak_list, path.parent),
            "source": lambda shown: picture_source(shown.picture, audit.pictures, path.parent),
        },
    )


def plot_by_split(measures: pd.DataFrame, column: str, label: str, splits: Sequence[str]) -> str:
    """How a measure of the samples is spread in each split, as SVG.

    Args:
        measures: of the samples, with a column `split`.
        column: which measure.
        label: of the axis.
        splits: in the order of the boxes.
    """
    values = [measures[column][measures["split"] == name].to_numpy() for name in splits]
    names = [f"{name} ({len(part)})" for name, part in zip(splits, values, strict=True)]
    return to_svg(boxes(names, values, label))
