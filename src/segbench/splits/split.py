"""The split stage: a split, and the audit that says what it and the masks are worth."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.datasets.canonical import read_info, read_samples, read_table
from segbench.datasets.doubts import describe_unmatched
from segbench.errors import InputError
from segbench.files import atomic_file, atomic_folder
from segbench.params.augment import Augment
from segbench.params.report import Report
from segbench.params.split import Split
from segbench.report.links import picture_mode
from segbench.splits.assign import SPLITS, UNUSED, read_split, split_samples
from segbench.splits.balance import absent_classes, describe_classes, holdings_of, other_colours
from segbench.splits.concerns import LOSSES, Concern, different_masks, notes_of, stops, warnings_of
from segbench.splits.duplicates import find_duplicates, merge_duplicates
from segbench.splits.leaks import Leaks, leaks_of, worst_fold, write_pairs
from segbench.splits.masks import suspicious_masks
from segbench.splits.objects import lost_objects
from segbench.splits.page import Audit, write_audit
from segbench.splits.pictures import Drawing


@dataclass(frozen=True)
class SplitPaths:
    """Where the split stage writes; see dvc.yaml."""

    split: Path
    scores: Path
    page: Path
    pictures: Path


def split(dataset: Path, params: Split, report: Report, augment: Augment, paths: SplitPaths) -> str:
    """Split a canonical dataset; write the table, its metrics and the audit page.

    Args:
        dataset: folder of the dataset.
        params: how to split.
        report: says which pictures may be shown.
        augment: the size that masks are resized to.
        paths: what to write; the table only if nothing leaks, or a leak is to be a warning.

    Returns:
        Lines that say what came out, with warnings.

    Raises:
        InputError: if something leaks or a split holds no object, once the page that shows it is
            written.
    """
    info, samples = read_info(dataset), read_samples(dataset)
    measures = read_table(dataset / "measures.csv")
    skipped = pd.read_csv(dataset / "skipped.csv")["reason"].tolist()
    unmatched = read_table(dataset / "unmatched.csv")["file"].tolist()
    # What a split keeps together need not be compared.
    within = params.by != "group"
    duplicates = find_duplicates(dataset, samples, measures, params.near_duplicate, within)
    if params.merge_duplicates:
        samples = samples.assign(group=merge_duplicates(samples, duplicates))
    former = read_split(paths.split) if params.sticky and paths.split.exists() else None
    table = split_samples(samples, params, former)
    leaks = [leaks_of(fold, samples, duplicates) for _, fold in table.groupby("fold")]
    lost = lost_objects(dataset, samples, info, augment)
    suspicious = suspicious_masks(info, measures)
    suspicious["lost_masks"], suspicious["shrunken_masks"] = lost.masks()
    metrics = split_metrics(params, table, samples, measures, leaks, suspicious, len(skipped))
    holdings = holdings_of(table, measures, info)
    for fold, parts in holdings.items():
        for name, counts in parts.items():
            metrics[f"fold{fold}"][name]["classes"] = counts
    with atomic_file(paths.scores) as partial:
        partial.write_text(json.dumps(metrics, indent=2) + "\n")
    mode, worst = picture_mode(report.pictures, info.redistributable), worst_fold(leaks)
    with atomic_folder(paths.pictures) as partial:
        write_pairs(partial / "leaks.csv", duplicates, leaks, samples, table)
        shown = table[table["fold"] == worst].set_index("id")["split"]
        draw = Drawing(dataset, samples, shown, partial, paths.pictures, mode != "none", info)
        leak_findings = draw.leaks(duplicates, leaks, worst)
        runners_up = draw.runners_up(duplicates)
        mask_findings, examples = draw.masks(suspicious), draw.examples()
    loss = next((one.place for one in mask_findings if one.count and one.name in LOSSES), "")
    warnings = [
        *([Concern("warning", lost.describe(), loss)] if lost.describe() else []),
        *(Concern("warning", text, "classes") for text in absent_classes(holdings)),
        *(Concern("warning", text, "images") for text in other_colours(table, measures)),
        *warnings_of(info, measures, duplicates, len(skipped), metrics),
        *([Concern("warning", describe_unmatched(unmatched))] if unmatched else []),
        *(
            Concern("warning", text, "exact-duplicates")
            for text in different_masks(dataset, samples, duplicates.exact)
        ),
    ]
    concerns = [
        *stops(params, holdings, leaks),
        *warnings,
        *notes_of(info, measures, metrics, leak_findings, mask_findings, worst),
    ]
    audit = Audit(
        info=info,
        params=params,
        scores=metrics,
        table=table,
        samples=samples,
        measures=measures,
        concerns=concerns,
        worst=worst,
        leak_list=paths.pictures / "leaks.csv",
        skipped=skipped,
        pictures=mode,
        leaks=leak_findings,
        runners_up=runners_up,
        limit=duplicates.limit,
        background=duplicates.background,
        masks=mask_findings,
        examples=examples,
    )
    write_audit(audit, paths.page)
    for one in concerns:
        if one.severity == "error":
            raise InputError(f"{one.text}; see {paths.page}, then {one.way_out}")
    with atomic_file(paths.split) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    lines = [f"WARNING: {one.text}" for one in concerns if one.severity == "warning"]
    if params.sticky:
        lines.append(_kept(table, former))
    lines += describe_classes(holdings)
    lines.append(f"{_sizes(metrics, params)} in {paths.split}; audit in {paths.page}")
    return "\n".join(lines)


def _sizes(metrics: dict[str, dict[str, Any]], params: Split) -> str:
    first = metrics["fold0"]
    parts = [
        f"{name} {first[name]['images']} ({100 * first[name]['share']:.1f} %, "
        f"{first[name]['groups']} groups)"
        for name in SPLITS
    ]
    if first["unused"]:
        parts.append(f"unused {first['unused']}")
    if params.num_folds > 1:
        parts.append(f"likewise in {params.num_folds - 1} more folds")
    return ", ".join(parts)


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


def split_metrics(
    params: Split,
    table: pd.DataFrame,
    samples: pd.DataFrame,
    measures: pd.DataFrame,
    leaks: Sequence[Leaks],
    suspicious: dict[str, NDArray[np.int64]],
    skipped: int,
) -> dict[str, dict[str, Any]]:
    """What was asked of the split, what came out, and what is odd: the metrics of the stage.

    Args:
        params: how it was split.
        table: a row for each sample and fold.
        samples: of the dataset.
        measures: of the samples.
        leaks: of each fold.
        suspicious: rows of samples by what is odd with their masks.
        skipped: how many pairs were left out.
    """
    test = params.test_share or (None if params.by == "predefined" else 1 / params.num_folds)
    train = None if test is None else round(1 - params.val_share - test, 6)
    val_is_drawn = params.by != "predefined" or "val" not in set(samples["split"])
    val = params.val_share if val_is_drawn else None
    metrics: dict[str, dict[str, Any]] = {
        "data": {
            "images": len(samples),
            "skipped": skipped,
            "groups": int(samples["group"].nunique()),
            "foreground": _rounded(measures["foreground"].mean()),
            **{name: len(rows) for name, rows in suspicious.items()},
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
        metrics[f"fold{number}"] = parts
    return metrics


def _rounded(value: float) -> float:
    return round(float(value), 6)
