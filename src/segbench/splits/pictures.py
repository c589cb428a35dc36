"""What the audit found, with pictures of it: pairs on both sides of a split, suspicious masks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from segbench.datasets.canonical import DatasetInfo
from segbench.images import read_pixels, resize
from segbench.report.drawing import class_colours, outline
from segbench.report.overlay import overlay
from segbench.splits.duplicates import Duplicates
from segbench.splits.leaks import Leaks, pairs_by_kind
from segbench.splits.masks import LEAST_BETWEEN, MANY_COMPONENTS, MOST_BORDER, MOST_FOREGROUND

PICTURE_SIZE = 256
"""Of the longer side, in pixels; 200 of them make 3 MB."""
PICTURES_EACH = 12
"""Pairs or samples that are shown of each finding."""


@dataclass(frozen=True)
class Shown:
    """A sample on the page."""

    id: str
    split: str
    group: str
    picture: Path


@dataclass(frozen=True)
class Finding:
    """One kind of thing that was looked for.

    Attributes:
        name, text: what it is.
        count: how often it was found.
        crossing: how often on both sides of each fold's split; empty for masks.
        rows: samples to show, pairs side by side.
        notes: of each of these rows, such as how alike a pair is.
    """

    name: str
    text: str
    count: int
    crossing: list[int]
    rows: list[list[Shown]]
    notes: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Id of its part of the page."""
        return self.name.replace(" ", "-")


class Drawing:
    """Draws samples into a folder, each once.

    Args:
        dataset: folder of the dataset.
        samples: its samples.csv.
        split: of each sample, by id, as the page names it.
        partial: where pictures are written now.
        folder: where they will be.
        wanted: False: no picture is drawn, none may be shown.
        info: of the dataset.
    """

    def __init__(
        self,
        dataset: Path,
        samples: pd.DataFrame,
        split: pd.Series,
        partial: Path,
        folder: Path,
        wanted: bool,
        info: DatasetInfo,
    ) -> None:
        self.dataset, self.samples, self.split = dataset, samples, split
        self.partial, self.folder, self.wanted = partial, folder, wanted
        self.colours = class_colours(info.colours, info.scheme)
        self.background, self.fills = info.background, len(info.scored) > 1

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
            if with_mask and self.fills:
                picture = overlay(image, mask, self.colours, self.background, min_size=1)
            else:
                truth = mask if with_mask else None
                picture = outline(
                    image, truth, min_size=1, colours=self.colours, background=self.background
                )
            Image.fromarray(picture).save(self.partial / name, quality=85)
        return Shown(
            *(str(row["id"]), str(self.split[row["id"]]), str(row["group"])), self.folder / name
        )

    def examples(self) -> list[Shown]:
        """Some samples, evenly spread."""
        number = min(PICTURES_EACH, len(self.samples))
        picked = np.linspace(0, len(self.samples) - 1, number)
        return [self.shown(int(at), True) for at in picked]

    def leaks(self, duplicates: Duplicates, leaks: Sequence[Leaks], worst: int) -> list[Finding]:
        """Each kind of pair: how many there are, how many cross splits, and the most similar.

        Args:
            duplicates: all pairs.
            leaks: those on both sides of a split, by fold.
            worst: the fold whose pairs are shown.
        """
        texts = {
            "exact_duplicates": "the same pixels twice",
            "near_duplicates": "nearly the same picture, also turned or mirrored",
            "annotated_copies": "the same picture, with something drawn on one",
            "neighbours": "one continues the other",
        }
        findings = []
        for kind, pairs in pairs_by_kind(duplicates).items():
            crosses = leaks[worst].pairs[kind]
            closeness = duplicates.likeness if kind == "near_duplicates" else np.ones(len(pairs))
            order = np.lexsort([-closeness, ~crosses])
            # Those on both sides of the split first.
            chosen = order[:PICTURES_EACH]
            findings.append(
                Finding(
                    name=kind.replace("_", " "),
                    text=texts[kind],
                    count=len(pairs),
                    crossing=[int(fold.pairs[kind].sum()) for fold in leaks],
                    rows=[[self.shown(int(at), False) for at in pairs[row]] for row in chosen],
                    notes=self._notes(kind, duplicates, crosses, chosen),
                )
            )
        return findings

    def runners_up(self, duplicates: Duplicates) -> Finding:
        """The pairs of different groups that come next, and do not count."""
        pairs, likeness = duplicates.runners_up, duplicates.runners_up_likeness
        return Finding(
            name="the next most alike",
            text="below the limit, not counted",
            count=len(pairs),
            crossing=[],
            rows=[[self.shown(int(at), False) for at in pair] for pair in pairs],
            notes=[f"likeness {value:.2f}" for value in likeness],
        )

    def _notes(
        self,
        kind: str,
        duplicates: Duplicates,
        crosses: NDArray[np.bool_],
        chosen: NDArray[np.int64],
    ) -> list[str]:
        """What is said below each pair."""
        notes = []
        for row in chosen:
            said = ["on both sides of the split"] if crosses[row] else []
            if kind == "near_duplicates":
                turned = ", turned or mirrored" if duplicates.turned[row] else ""
                said.insert(0, f"likeness {duplicates.likeness[row]:.2f}{turned}")
            notes.append("; ".join(said))
        return notes

    def masks(self, suspicious: dict[str, NDArray[np.int64]]) -> list[Finding]:
        """Each kind of suspicious mask: how many there are, and some of them."""
        what = "a class" if self.fills else "the foreground"
        texts = {
            "empty_masks": "no foreground at all",
            "full_masks": "nothing but foreground",
            "inverted_masks": (
                f"over {100 * MOST_FOREGROUND:g} % of the mask and {100 * MOST_BORDER:g} % of its "
                "rim are foreground"
            ),
            "grey_masks": f"over {100 * LEAST_BETWEEN:g} % of the file's pixels are grey",
            "lost_masks": f"nothing of {what} is left at the networks' size",
            "shrunken_masks": f"over half of {what} is lost at the networks' size",
            "speckled_masks": f"over {MANY_COMPONENTS} times the usual number of components",
        }
        return [
            Finding(
                name=name.replace("_", " "),
                text=texts[name],
                count=len(rows),
                crossing=[],
                rows=[[self.shown(int(at), True) for at in rows[:PICTURES_EACH]]]
                if len(rows)
                else [],
            )
            for name, rows in suspicious.items()
        ]
