"""The split stage: a split, and the audit that says what it and the masks are worth."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from segbench.datasets.canonical import Info, read_info, read_samples, read_table
from segbench.errors import InputError
from segbench.files import whole_file, whole_folder
from segbench.images import read_pixels, resize
from segbench.leakage import (
    Alike,
    Pairs,
    find_alike,
    join_alike,
    straddling,
    straddling_equals,
    straddling_groups,
)
from segbench.params.split import Split
from segbench.report.audit import Audit, Finding, Shown, write_audit
from segbench.report.drawing import class_colours, outline
from segbench.report.links import picture_mode
from segbench.splitting import SPLITS, UNUSED, read_split, split_samples

# From these shares on, a mask looks inverted: most of it, and nearly all of its rim, is foreground.
MOST_FOREGROUND, MOST_BORDER = 0.5, 0.9
LEAST_BETWEEN = 0.05
"""Share of grey pixels in a mask's file from which it is shown."""
FAR_FROM_ASKED = 0.5
"""Relative difference of a split's share from which a warning says so."""
MANY_COMPONENTS = 5
"""Times the usual number of components from which a mask is shown."""
PICTURE_SIZE = 192
PICTURES_EACH = 8
"""Pairs or samples that are shown of each finding."""


@dataclass(frozen=True)
class Paths:
    """Where the split stage writes; see dvc.yaml."""

    split: Path
    scores: Path
    page: Path
    pictures: Path


def split_and_audit(dataset: Path, params: Split, pictures: str, paths: Paths) -> str:
    """Split a canonical dataset; write the table, its scores and the audit page.

    Args:
        dataset: folder of the dataset.
        params: how to split.
        pictures: as `report.pictures` asks.
        paths: what to write; the table only if nothing leaks, or a leak is to be a warning.

    Returns:
        Lines that say what came out, with warnings.

    Raises:
        InputError: if something leaks, once the page that shows it is written.
    """
    info, samples = read_info(dataset), read_samples(dataset)
    measures = read_table(dataset / "measures.csv")
    # What a split keeps together need not be compared.
    within = params.by != "group"
    alike = find_alike(dataset, samples, measures, params.near_duplicate, within)
    if params.join_alike:
        samples = samples.assign(group=join_alike(samples, alike))
    former = read_split(paths.split) if params.sticky and paths.split.exists() else None
    table = split_samples(samples, params, former)
    leaks = [leaks_of(fold, samples, alike) for _, fold in table.groupby("fold")]
    reasons = pd.read_csv(dataset / "skipped.csv")["reason"].tolist()
    masks = suspects(info, measures)
    scores = score(params, table, samples, measures, leaks, masks, len(reasons))
    with whole_file(paths.scores) as partial:
        partial.write_text(json.dumps(scores, indent=2) + "\n")
    mode = picture_mode(pictures, info.redistributable)
    found = in_words(leaks)
    worst = worst_fold(leaks)
    with whole_folder(paths.pictures) as partial:
        list_leaks(alike, leaks, samples).to_csv(
            partial / "leaks.csv", index=False, lineterminator="\n"
        )
        shown = table[table["fold"] == worst].set_index("id")["split"]
        draw = _Drawing(dataset, samples, shown, partial, paths.pictures, mode != "none", info)
        audit = Audit(
            info=info,
            params=params,
            scores=scores,
            table=table,
            samples=samples,
            measures=measures,
            verdict=found,
            leaks=_show_leaks(alike, leaks, worst, draw),
            worst=worst,
            leak_list=paths.pictures / "leaks.csv",
            masks=_show_masks(masks, draw),
            examples=[
                draw.shown(int(at), True)
                for at in np.linspace(0, len(samples) - 1, min(PICTURES_EACH, len(samples)))
            ],
            warnings=warnings_of(info, measures, alike, len(reasons), scores),
            skipped=reasons,
            pictures=mode,
        )
    write_audit(audit, paths.page)
    if found and params.on_leak == "error":
        raise InputError(
            f"{found}, none may; see {paths.page}, then set split.by: group, name the groups or "
            "set split.join_alike: true, or split.on_leak: warn"
        )
    with whole_file(paths.split) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    lines = [f"WARNING: {text}" for text in (found, *audit.warnings) if text]
    if params.sticky:
        lines.append(_kept(table, former))
    first = scores["fold0"]
    parts = [
        f"{name} {first[name]['images']} ({100 * first[name]['share']:.1f} %, "
        f"{first[name]['groups']} groups)"
        for name in SPLITS
    ]
    if first["unused"]:
        parts.append(f"unused {first['unused']}")
    if params.num_folds > 1:
        parts.append(f"likewise in {params.num_folds - 1} more folds")
    return "\n".join([*lines, f"{', '.join(parts)} in {paths.split}; audit in {paths.page}"])


def _kept(table: pd.DataFrame, former: pd.DataFrame | None) -> str:
    """How much of a former split is still there."""
    now = set(table["id"])
    before = set() if former is None else set(former["id"])
    if not now & before:
        return "WARNING: sticky, but there is no former split of these samples; all are drawn anew"
    return (
        f"sticky: {len(now & before)} samples stay, {len(now - before)} are new, "
        f"{len(before - now)} are gone"
    )


@dataclass(frozen=True)
class Leaks:
    """What straddles the splits of one fold: groups, and rows of pairs by kind."""

    groups: list[str]
    pairs: dict[str, NDArray[np.bool_]]

    def counts(self) -> dict[str, int]:
        """How many, by kind."""
        pairs = {kind: int(found.sum()) for kind, found in self.pairs.items()}
        return {"groups": len(self.groups), **pairs}


def leaks_of(fold: pd.DataFrame, samples: pd.DataFrame, alike: Alike) -> Leaks:
    """What straddles, by one fold of a split table."""
    split = fold.set_index("id")["split"].loc[samples["id"]].to_numpy(str)
    kinds = {kind: straddling(pairs, split) for kind, pairs in _kinds(alike).items()}
    kinds["exact_duplicates"] = straddling_equals(alike.exact, split)
    return Leaks(straddling_groups(fold), kinds)


def _kinds(alike: Alike) -> dict[str, Pairs]:
    return {
        "exact_duplicates": alike.exact,
        "near_duplicates": alike.near,
        "annotated_copies": alike.annotated,
        "neighbours": alike.neighbours,
    }


def worst_fold(leaks: Sequence[Leaks]) -> int:
    """The fold through which most leaks; the first if nothing does."""
    return max(range(len(leaks)), key=lambda fold: sum(leaks[fold].counts().values()))


def list_leaks(alike: Alike, leaks: Sequence[Leaks], samples: pd.DataFrame) -> pd.DataFrame:
    """A row for each group and pair that straddles: fold, kind, first, second."""
    rows: list[tuple[int, str, str, str]] = []
    ids = samples["id"].tolist()
    for fold, found in enumerate(leaks):
        rows += [(fold, "groups", group, "") for group in found.groups]
        for kind, pairs in _kinds(alike).items():
            rows += [(fold, kind, ids[a], ids[b]) for a, b in pairs[found.pairs[kind]].tolist()]
    return pd.DataFrame(rows, columns=["fold", "kind", "first", "second"])


def in_words(leaks: Sequence[Leaks]) -> str:
    """The worst fold's leaks in a few words, empty if nothing straddles."""
    worst = worst_fold(leaks)
    names = {
        "groups": ("group", "groups"),
        "exact_duplicates": ("exact duplicate", "exact duplicates"),
        "near_duplicates": ("near-duplicate pair", "near-duplicate pairs"),
        "annotated_copies": ("annotated copy", "annotated copies"),
        "neighbours": ("pair of neighbours", "pairs of neighbours"),
    }
    parts = [
        f"{count} {names[kind][count > 1]}"
        for kind, count in leaks[worst].counts().items()
        if count
    ]
    if not parts:
        return ""
    where = f"fold {worst} (the worst): " if len(leaks) > 1 else ""
    return f"the split leaks: {where}{', '.join(parts)} straddle it"


def score(
    params: Split,
    table: pd.DataFrame,
    samples: pd.DataFrame,
    measures: pd.DataFrame,
    leaks: Sequence[Leaks],
    masks: dict[str, NDArray[np.int64]],
    skipped: int,
) -> dict[str, dict[str, Any]]:
    """What was asked of the split, what came out, and what is odd: the metrics of the stage."""
    test = params.test_share or (None if params.by == "predefined" else 1 / params.num_folds)
    train = None if test is None else round(1 - params.val_share - test, 6)
    drawn = params.by != "predefined" or "val" not in set(samples["split"])
    val = params.val_share if drawn else None
    scores: dict[str, dict[str, Any]] = {
        "data": {
            "images": len(samples),
            "skipped": skipped,
            "groups": int(samples["group"].nunique()),
            "foreground": _rounded(measures["foreground"].mean()),
            **{name: len(rows) for name, rows in masks.items()},
            "resized_masks": int(measures["mask_resized"].sum()),
        },
        "asked": {"train": train, "val": val, "test": test},
    }
    foreground = measures.set_index("id")["foreground"]
    for (number, fold), found in zip(table.groupby("fold"), leaks, strict=True):
        parts: dict[str, object] = {}
        for name in SPLITS:
            rows = fold[fold["split"] == name]
            strata = rows["stratum"].value_counts().sort_index()
            parts[name] = {
                "images": len(rows),
                "share": _rounded(len(rows) / len(fold)),
                "groups": int(rows["group"].nunique()),
                "foreground": _rounded(foreground.loc[rows["id"]].mean()),
                "strata": {
                    stratum: _rounded(count / len(rows))
                    for stratum, count in strata.items()
                    if stratum
                },
            }
        parts["unused"] = int((fold["split"] == UNUSED).sum())
        parts["leaks"] = found.counts()
        scores[f"fold{number}"] = parts
    return scores


def _rounded(value: float) -> float:
    return round(float(value), 6)


def suspects(info: Info, measures: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Rows of samples whose masks are odd, by what is odd."""
    usual = max(float(measures["components"].median()), 1)
    inverted = (measures["foreground"] > MOST_FOREGROUND) & (measures["border"] > MOST_BORDER)
    odd = {
        "empty_masks": measures["foreground"] == 0,
        "full_masks": measures["foreground"] == 1,
        "inverted_masks": inverted & (info.foreground[0] < MOST_FOREGROUND),
        "grey_masks": (measures["mask_between"] > LEAST_BETWEEN) & (len(info.classes) == 2),
        "speckled_masks": measures["components"] > MANY_COMPONENTS * usual,
    }
    return {name: np.flatnonzero(rows) for name, rows in odd.items()}


def warnings_of(
    info: Info,
    measures: pd.DataFrame,
    alike: Alike,
    skipped: int,
    scores: dict[str, dict[str, Any]],
) -> list[str]:
    """What a person should look at before believing a number."""
    texts = []
    for name, asked in scores["asked"].items():
        shares = [part[name]["share"] for key, part in scores.items() if key.startswith("fold")]
        far = [got for got in shares if asked and abs(got - asked) > FAR_FROM_ASKED * asked]
        if far:
            texts.append(
                f"{name} holds {100 * far[0]:.1f} % of the images, asked for were "
                f"{100 * asked:.1f} %; the groups are too large or too uneven for more"
            )
    mean, (low, high) = measures["foreground"].mean(), info.foreground
    if not low <= mean <= high:
        texts.append(
            f"foreground covers {100 * mean:.1f} % of the images, expected are {100 * low:g} to "
            f"{100 * high:g} %; are the masks inverted, or of another dataset?"
        )
    if info.published and len(measures) != info.published:
        texts.append(f"{len(measures)} of the {info.published} published images are here")
    if skipped:
        texts.append(f"{skipped} images were left out, since they or their masks are unusable")
    if alike.unseen:
        texts.append(
            f"{alike.unseen} pairs of images, the least alike of very many, were not compared"
        )
    if alike.blank:
        texts.append(f"{alike.blank} images show nothing (one even colour) and were not compared")
    return texts


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
