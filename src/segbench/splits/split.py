"""The split stage: a split, and the audit that says what it and the masks are worth."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.datasets.canonical import DatasetInfo, read_info, read_samples, read_table
from segbench.datasets.doubts import describe_unmatched, reading_doubts
from segbench.errors import InputError
from segbench.files import atomic_file, atomic_folder
from segbench.images import read_pixels
from segbench.params.augment import Augment
from segbench.params.report import Report
from segbench.params.split import Split
from segbench.report.links import picture_mode
from segbench.splits.assign import SPLITS, UNUSED, read_split, split_samples
from segbench.splits.balance import (
    absent_classes,
    describe_classes,
    holdings_of,
    other_colours,
    read_class_pixels,
    without_objects,
)
from segbench.splits.candidates import Pairs
from segbench.splits.duplicates import Duplicates, find_duplicates, merge_duplicates
from segbench.splits.leaks import Leaks, describe_leaks, leaks_of, worst_fold, write_pairs
from segbench.splits.masks import suspicious_masks
from segbench.splits.objects import lost_objects
from segbench.splits.page import Audit, write_audit
from segbench.splits.pictures import Drawing

# Pairs that a warning names.
MOST_NAMED = 10
# Findings in masks that need a person's eye, and how they are said.
DOUBTED = {
    "inverted_masks": "look inverted: foreground covers most of them and nearly all of their rim",
}
FAR_FROM_ASKED = 0.5
"""Relative difference of a split's share from which a warning says so."""


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
    audit = Audit(
        info=info,
        params=params,
        scores=metrics,
        table=table,
        samples=samples,
        measures=measures,
        verdict=describe_leaks(leaks),
        way_out=_way_out(params),
        worst=worst,
        leak_list=paths.pictures / "leaks.csv",
        warnings=[
            *([lost.describe()] if lost.describe() else []),
            *absent_classes(holdings),
            *other_colours(table, measures),
            *warnings_of(info, measures, duplicates, len(skipped), metrics),
            *([describe_unmatched(unmatched)] if unmatched else []),
            *different_masks(dataset, samples, duplicates.exact),
        ],
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
    if missing := without_objects(holdings):
        raise InputError(f"{missing}; see {paths.page}, then {_other_split(params)}")
    if audit.verdict and params.on_leak == "error":
        raise InputError(f"{audit.verdict}, none may; see {paths.page}, then {audit.way_out}")
    with atomic_file(paths.split) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    lines = [f"WARNING: {text}" for text in (audit.verdict, *audit.warnings) if text]
    if params.sticky:
        lines.append(_kept(table, former))
    lines += describe_classes(holdings)
    lines.append(f"{_sizes(metrics, params)} in {paths.split}; audit in {paths.page}")
    return "\n".join(lines)


def _way_out(params: Split) -> str:
    """What to do about a leak."""
    group = "" if params.by == "group" else "set split.by: group and "
    return (
        f"{group}name the groups in dataset.group or set split.merge_duplicates: true, or set "
        "split.on_leak: warn (or raise split.near_duplicate above pairs that are different)"
    )


def _other_split(params: Split) -> str:
    """How to get a split that holds something else."""
    if params.by == "predefined":
        return "correct what dataset.split says, or set split.by: group"
    fewer = ", lower split.num_folds" if params.num_folds > 1 else ""
    return (
        "take another split.seed, raise split.val_share or split.test_share"
        f"{fewer}, or balance images with and without objects by dataset.stratum"
    )


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


def different_masks(dataset: Path, samples: pd.DataFrame, exact: Pairs) -> list[str]:
    """Equal images whose masks differ, in words: one of the two is wrong, or both are doubtful.

    Args:
        dataset: folder of the canonical dataset.
        samples: of the dataset.
        exact: pairs of rows with equal images.
    """
    hashes = samples["sha256"].to_numpy(str)
    pairs = [(a, b) for a, b in exact.tolist() if hashes[a] != hashes[b]]
    if not pairs:
        return []
    texts = []
    for pair in pairs[:MOST_NAMED]:
        first, second = (read_pixels(dataset / samples["mask"][row]) for row in pair)
        same = 100 * (first == second).mean()
        texts.append(f"{' and '.join(samples['id'][row] for row in pair)} ({same:.1f} % alike)")
    more = f" and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else ""
    return [
        f"{len(pairs)} pairs of equal images have different masks: {', '.join(texts)}{more}; "
        "keep the right one of each"
    ]


def _rounded(value: float) -> float:
    return round(float(value), 6)


def warnings_of(
    info: DatasetInfo,
    measures: pd.DataFrame,
    duplicates: Duplicates,
    skipped: int,
    metrics: dict[str, dict[str, Any]],
) -> list[str]:
    """What a person should look at before believing a number.

    Args:
        info: of the dataset.
        measures: of its samples.
        duplicates: what of them was not compared.
        skipped: how many pairs were left out.
        metrics: as `split_metrics` gives them.
    """
    texts = []
    for name, asked in metrics["asked"].items():
        shares = [part[name]["share"] for key, part in metrics.items() if key.startswith("fold")]
        far = [got for got in shares if asked and abs(got - asked) > FAR_FROM_ASKED * asked]
        if far:
            texts.append(
                f"{name} holds {100 * far[0]:.1f} % of the images, asked for were "
                f"{100 * asked:.1f} %; the groups are too large or too uneven for more"
            )
    mean, (low, high) = measures["foreground"].mean(), info.foreground
    if info.background is not None and not low <= mean <= high:
        texts.append(
            f"foreground covers {100 * mean:.1f} % of the images, expected are {100 * low:g} to "
            f"{100 * high:g} %; are the masks inverted, or of another dataset? if "
            "not, set dataset.foreground"
        )
    texts += reading_doubts(measures, info)
    if info.published and len(measures) != info.published:
        texts.append(
            f"{len(measures)} of the {info.published} published images are here; is that meant?"
        )
    if skipped:
        texts.append(
            f"{skipped} images were left out, since they or their masks are unusable; why is told "
            "below, mend them or leave it at that"
        )
    if ignored := int((read_class_pixels(measures).sum(axis=1) == 0).sum()):
        texts.append(
            f"wholly ignored masks: {ignored}; their images neither train nor count, leave them "
            "out or check dataset.mask and dataset.ignore"
        )
    if duplicates.unseen:
        texts.append(
            f"{duplicates.unseen} pairs of images, the least similar of very many, were not "
            "compared"
        )
    if len(duplicates.blank):
        ids = measures["id"].iloc[duplicates.blank[:MOST_NAMED]]
        more = len(duplicates.blank) - len(ids)
        texts.append(
            f"{len(duplicates.blank)} images show nothing (one even colour) and were not compared: "
            f"{', '.join(ids)}{f' and {more} more' if more else ''}; take them out unless such "
            "images are to be predicted"
        )
    for name, what in DOUBTED.items():
        if count := metrics["data"][name]:
            texts.append(f"{count} masks {what}; look at them below")
    return texts
