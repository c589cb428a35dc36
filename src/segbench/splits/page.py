"""The audit page: the split, what leaks through it, the masks, the images of each split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from segbench.datasets.canonical import Info
from segbench.images import read_pixels, resize
from segbench.params.split import Split
from segbench.report.drawing import class_colours, outline
from segbench.report.links import link_to, picture_source
from segbench.report.render import write_page
from segbench.report.svg import boxes, to_svg
from segbench.splits.assign import SPLITS
from segbench.splits.duplicates import Alike
from segbench.splits.leaks import Leaks, _kinds
from segbench.splits.masks import LEAST_BETWEEN, MANY_COMPONENTS, MOST_BORDER, MOST_FOREGROUND

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
        "splits/page.html.jinja",
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
                plot_by_split(measures, column, label, SPLITS) for column, label in columns.items()
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


PICTURE_SIZE = 192
PICTURES_EACH = 8
"""Pairs or samples that are shown of each finding."""


class _Drawing:
    """Draws samples into a folder, each once."""

    def __init__(
        self,
        dataset: Path,
        samples: pd.DataFrame,
        split: pd.Series,
        partial: Path,
        folder: Path,
        wanted: bool,
        info: Info,
    ) -> None:
        self.dataset, self.samples, self.split = dataset, samples, split
        self.partial, self.folder, self.wanted = partial, folder, wanted
        self.colours = class_colours(info.colours, len(info.classes))

    def shown(self, at: int, with_mask: bool) -> Shown:
        """A sample with its picture, at a size for a page."""
        row = self.samples.iloc[at]
        name = f"{row['id']}{'--mask' if with_mask else ''}.jpg"
        if self.wanted and not (self.partial / name).exists():
            image, mask = (read_pixels(self.dataset / row[kind]) for kind in ("image", "mask"))
            scale = PICTURE_SIZE / max(mask.shape)
            height, width = (max(1, round(side * scale)) for side in mask.shape)
            image, mask = resize(image, mask, height, width)
            image = image.reshape(height, width, -1)
            truth = mask if with_mask else None
            picture = outline(image, truth, min_size=1, colours=self.colours)
            Image.fromarray(picture).save(self.partial / name, quality=85)
        return Shown(str(row["id"]), str(self.split[row["id"]]), self.folder / name)


def _show_leaks(alike: Alike, leaks: Sequence[Leaks], worst: int, draw: _Drawing) -> list[Finding]:
    """Each kind of pair: how many there are, how many straddle, and the most alike of them."""
    texts = {
        "exact_duplicates": "the same pixels twice",
        "near_duplicates": "nearly the same picture, also turned or mirrored",
        "annotated_copies": "the same picture, with something drawn on one",
        "neighbours": "one continues the other",
    }
    findings = []
    for kind, pairs in _kinds(alike).items():
        straddles = leaks[worst].pairs[kind]
        closeness = alike.correlation if kind == "near_duplicates" else np.ones(len(pairs))
        order = np.lexsort([-closeness, ~straddles])
        # Those that straddle first; where none does, what was found all the same.
        chosen = order[: min(PICTURES_EACH, int(straddles.sum()) or PICTURES_EACH)]
        findings.append(
            Finding(
                name=kind.replace("_", " "),
                text=texts[kind],
                count=len(pairs),
                straddling=[int(fold.pairs[kind].sum()) for fold in leaks],
                rows=[[draw.shown(int(at), False) for at in pairs[row]] for row in chosen],
            )
        )
    return findings


def _show_masks(masks: dict[str, NDArray[np.int64]], draw: _Drawing) -> list[Finding]:
    """Each kind of odd mask: how many there are, and some of them."""
    texts = {
        "empty_masks": "no foreground at all",
        "full_masks": "nothing but foreground",
        "inverted_masks": (
            f"over {100 * MOST_FOREGROUND:g} % of the mask and {100 * MOST_BORDER:g} % of its rim "
            "are foreground"
        ),
        "grey_masks": f"over {100 * LEAST_BETWEEN:g} % of the file's pixels are grey",
        "speckled_masks": f"over {MANY_COMPONENTS} times the usual number of components",
    }
    return [
        Finding(
            name=name.replace("_", " "),
            text=texts[name],
            count=len(rows),
            straddling=[],
            rows=[[draw.shown(int(at), True) for at in rows[:PICTURES_EACH]]] if len(rows) else [],
        )
        for name, rows in masks.items()
    ]


def plot_by_split(measures: pd.DataFrame, column: str, label: str, splits: Sequence[str]) -> str:
    """How a measure of the samples is spread in each split."""
    values = [measures[column][measures["split"] == name].to_numpy() for name in splits]
    names = [f"{name} ({len(part)})" for name, part in zip(splits, values, strict=True)]
    return to_svg(boxes(names, values, label))
