"""The audit page: the split, what leaks through it, the masks, the images of each split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segbench.datasets.canonical import Info
from segbench.params.split import Split
from segbench.report import plots
from segbench.report.drawing import class_colours
from segbench.report.links import link_to, picture_source
from segbench.report.render import write_page
from segbench.splitting import SPLITS

MOST_STRATA = 12
"""Strata that are listed in the open; more are folded away."""


@dataclass(frozen=True)
class Shown:
    """A sample on the page."""

    id: str
    split: str
    picture: Path


@dataclass(frozen=True)
class Finding:
    """One kind of thing that was looked for.

    Attributes:
        name, text: what it is.
        count: how often it was found.
        straddling: how often on both sides of each fold's split; empty for masks.
        rows: samples to show, pairs side by side.
    """

    name: str
    text: str
    count: int
    straddling: list[int]
    rows: list[list[Shown]]


@dataclass(frozen=True)
class Audit:
    """All that the page shows.

    `verdict` says what leaks, empty if nothing does; `worst` is the fold whose pairs are shown, and
    `leak_list` the table of all that straddle.
    """

    info: Info
    params: Split
    scores: dict[str, dict[str, Any]]
    table: pd.DataFrame
    samples: pd.DataFrame
    measures: pd.DataFrame
    verdict: str
    leaks: list[Finding]
    worst: int
    leak_list: Path
    masks: list[Finding]
    examples: list[Shown]
    warnings: list[str]
    skipped: list[str]
    pictures: str


def write_audit(audit: Audit, path: Path) -> None:
    """Write the page."""
    first = audit.table[audit.table["fold"] == 0].set_index("id")["split"]
    measures = audit.measures.assign(split=first.loc[audit.measures["id"]].to_numpy())
    measures["brightness"] = measures[["red", "green", "blue"]].mean(axis=1)
    columns = {
        "brightness": "brightness (mean of all pixels, 0 to 255)",
        "contrast": "contrast (standard deviation of the thumbnail, 0 to 255)",
        "foreground": "share of foreground",
    }
    by_split = measures.groupby("split")
    names = ["red", "green", "blue", "contrast", "foreground", "components"]
    size = audit.samples["width"].astype(str) + "x" + audit.samples["height"].astype(str)
    sizes = size.value_counts()
    colours = class_colours(audit.info.colours, len(audit.info.classes))
    write_page(
        path,
        {
            "audit": audit,
            "folds": [
                (number, audit.scores[f"fold{number}"]) for number in audit.table["fold"].unique()
            ],
            "splits": SPLITS,
            "classes": list(zip(audit.info.classes, colours, strict=True)),
            "strata": sorted(set(audit.samples["stratum"]) - {""}),
            "most_strata": MOST_STRATA,
            "statistics": [
                (name, by_split.get_group(name)[names].agg(["mean", "std"]).fillna(0))
                for name in SPLITS
            ],
            "names": names,
            "plots": [
                plots.by_split(measures, column, label, SPLITS) for column, label in columns.items()
            ],
            "sizes": list(sizes[:8].items()),
            "num_sizes": len(sizes),
            "values": audit.measures["mask_values"],
            "components": audit.measures["components"].describe().to_dict(),
            "between": float(audit.measures["mask_between"].mean()),
            "leak_list": link_to(audit.leak_list, path.parent),
            "source": lambda shown: picture_source(shown.picture, audit.pictures, path.parent),
        },
    )
