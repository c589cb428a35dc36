"""The split stage: a split, and the audit that says what it and the masks are worth."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.datasets.canonical import Info, read_info, read_samples, read_table
from segbench.errors import InputError
from segbench.files import atomic_file, atomic_folder
from segbench.params.report import Report
from segbench.params.split import Split
from segbench.report.links import picture_mode
from segbench.splits.assign import SPLITS, UNUSED, read_split, split_samples
from segbench.splits.duplicates import Alike, find_alike, join_alike
from segbench.splits.leaks import Leaks, in_words, leaks_of, list_leaks, worst_fold
from segbench.splits.masks import suspects
from segbench.splits.page import (
    PICTURES_EACH,
    Audit,
    _Drawing,
    _show_leaks,
    _show_masks,
    write_audit,
)

FAR_FROM_ASKED = 0.5
"""Relative difference of a split's share from which a warning says so."""


@dataclass(frozen=True)
class Paths:
    """Where the split stage writes; see dvc.yaml."""

    split: Path
    scores: Path
    page: Path
    pictures: Path


def split_and_audit(dataset: Path, params: Split, report: Report, paths: Paths) -> str:
    """Split a canonical dataset; write the table, its scores and the audit page.

    Args:
        dataset: folder of the dataset.
        params: how to split.
        report: says which pictures may be shown.
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
    with atomic_file(paths.scores) as partial:
        partial.write_text(json.dumps(scores, indent=2) + "\n")
    mode = picture_mode(report.pictures, info.redistributable)
    found = in_words(leaks)
    worst = worst_fold(leaks)
    with atomic_folder(paths.pictures) as partial:
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
    with atomic_file(paths.split) as partial:
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
