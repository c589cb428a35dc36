"""What a person should know of a dataset and its split before believing a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from segbench.datasets.canonical import DatasetInfo
from segbench.datasets.doubts import reading_doubts, reading_notes
from segbench.images import read_pixels
from segbench.params.split import Split
from segbench.report.words import counted
from segbench.splits.balance import Holdings, read_class_pixels, without_objects
from segbench.splits.candidates import Pairs
from segbench.splits.duplicates import Duplicates
from segbench.splits.leaks import PAIRS, Leaks, describe_leaks
from segbench.splits.pictures import Finding

MOST_NAMED = 10
"""Pairs that a warning names."""
FAR_FROM_ASKED = 0.5
"""Relative difference of a split's share from which a warning says so."""
LOSSES = ("lost masks", "shrunken masks")
WARNED_MASKS = {"inverted masks", *LOSSES}
"""Findings in masks that a warning tells of; others are notes."""

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Concern:
    """Something that should be known, or decided.

    Attributes:
        severity: `error`: the pipeline stops; `warning`: a person decides; `note`: good to know.
        text: what it is.
        place: id of the part of the audit page that shows it; empty if none does.
        way_out: what to do about it, where the text does not say so.
    """

    severity: Severity
    text: str
    place: str = ""
    way_out: str = ""


def stops(params: Split, holdings: Holdings, leaks: Sequence[Leaks]) -> list[Concern]:
    """What may stop the pipeline: a split without objects, and leaks unless they are allowed.

    Args:
        params: how it was split.
        holdings: images of each class in each split.
        leaks: of each fold.
    """
    found = []
    if missing := without_objects(holdings):
        found.append(Concern("error", missing, "split", _other_split(params)))
    if leak := describe_leaks(leaks):
        severity: Severity = "error" if params.on_leak == "error" else "warning"
        found.append(Concern(severity, leak, "leaks", _way_out(params)))
    return found


def _way_out(params: Split) -> str:
    """What to do about a leak."""
    group = "" if params.by == "group" else "set split.by: group, and "
    warn = "" if params.on_leak == "warn" else ", or set split.on_leak: warn"
    return (
        f"{group}name the groups in dataset.group or set split.merge_duplicates: true; if the "
        f"pairs are different all the same, raise split.near_duplicate above their likeness{warn}"
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


def headline(concerns: Sequence[Concern]) -> str:
    """Whether the data may be used and what is wrong, in a sentence or two."""
    leaks = any(one.place == "leaks" for one in concerns)
    empty = any(one.place == "split" and one.severity == "error" for one in concerns)
    others = sum(one.severity == "warning" and one.place != "leaks" for one in concerns)
    points = f"point{'s' * (others > 1)} need{'s' * (others == 1)} a decision"
    if leaks or empty:
        stops = any(one.severity == "error" for one in concerns)
        may = "Do not use this split yet" if stops else "Scores on this split will be too good"
        wrong = [
            *(["a part of it holds no object"] if empty else []),
            *(["the same content lies on both sides of it"] if leaks else []),
        ]
        more = f" {others} more {points}." if others else ""
        return f"{may}: {' and '.join(wrong)}.{more}"
    if others:
        return f"Nothing leaks through this split, but {others} {points} before it is used."
    return "These data may be used: nothing leaks, and nothing needs a decision."


def warnings_of(
    info: DatasetInfo,
    measures: pd.DataFrame,
    duplicates: Duplicates,
    skipped: int,
    metrics: dict[str, dict[str, Any]],
) -> list[Concern]:
    """What a person should look at before believing a number.

    Args:
        info: of the dataset.
        measures: of its samples.
        duplicates: what of them was not compared.
        skipped: how many pairs were left out.
        metrics: as `split_metrics` gives them.
    """
    found: list[tuple[str, str]] = []
    for name, asked in metrics["asked"].items():
        shares = [part[name]["share"] for key, part in metrics.items() if key.startswith("fold")]
        far = [got for got in shares if asked and abs(got - asked) > FAR_FROM_ASKED * asked]
        if far:
            text = (
                f"{name} holds {100 * far[0]:.1f} % of the images, asked for were "
                f"{100 * asked:.1f} %; the groups are too large or too uneven for more"
            )
            found.append((text, "split"))
    mean, (low, high) = measures["foreground"].mean(), info.foreground
    if info.background is not None and not low <= mean <= high:
        text = (
            f"foreground covers {100 * mean:.1f} % of the images, expected are {100 * low:g} to "
            f"{100 * high:g} %; are the masks inverted, or of another dataset? if "
            "not, set dataset.foreground"
        )
        found.append((text, "masks"))
    found += [(text, "masks") for text in reading_doubts(measures, info)]
    if info.published and len(measures) != info.published:
        text = f"{len(measures)} of the {info.published} published images are here; is that meant?"
        found.append((text, ""))
    if skipped:
        text = (
            f"{counted(skipped, 'image was', 'images were')} left out, since the image or its mask "
            "is unusable; the page says why: mend them or leave it at that"
        )
        found.append((text, "left-out"))
    if ignored := int((read_class_pixels(measures).sum(axis=1) == 0).sum()):
        text = (
            f"wholly ignored masks: {ignored}; their images neither train nor count, leave them "
            "out or check dataset.mask and dataset.ignore"
        )
        found.append((text, ""))
    if duplicates.unseen:
        text = (
            f"{counted(duplicates.unseen, 'pair')} of images, the least similar of very many, "
            "were not compared"
        )
        found.append((text, ""))
    if len(duplicates.blank):
        ids = measures["id"].iloc[duplicates.blank[:MOST_NAMED]]
        more = len(duplicates.blank) - len(ids)
        what = "nothing (one even colour) and"
        blank = counted(len(ids) + more, f"image shows {what} was", f"images show {what} were")
        text = (
            f"{blank} not compared: {', '.join(ids)}{f' and {more} more' if more else ''}; take "
            "such images out unless they are to be predicted"
        )
        found.append((text, ""))
    if inverted := metrics["data"]["inverted_masks"]:
        text = (
            f"{counted(inverted, 'mask looks', 'masks look')} inverted: foreground covers most of "
            "it and nearly all of its rim; look at the pictures"
        )
        found.append((text, "inverted-masks"))
    return [Concern("warning", *one) for one in found]


def notes_of(
    info: DatasetInfo,
    measures: pd.DataFrame,
    metrics: dict[str, dict[str, Any]],
    leaks: Sequence[Finding],
    masks: Sequence[Finding],
    worst: int,
) -> list[Concern]:
    """What is good to know, and asks for no decision.

    Args:
        info: of the dataset.
        measures: of its samples.
        metrics: as `split_metrics` gives them.
        leaks: kinds of pairs.
        masks: kinds of suspicious masks.
        worst: the fold whose pairs are shown.
    """
    found = []
    for one, name in zip(leaks, PAIRS.values(), strict=True):
        if within := one.count - one.crossing[worst]:
            text = f"{counted(within, *name)} within one split, which is no leak"
            found.append(Concern("note", text, one.place))
    for one in masks:
        if one.count and one.name not in WARNED_MASKS:
            text = f"{counted(one.count, one.name.removesuffix('s'), one.name)}: {one.text}"
            found.append(Concern("note", text, one.place))
    if resized := metrics["data"]["resized_masks"]:
        text = f"{counted(resized, 'mask was', 'masks were')} of another size than the image"
        found.append(Concern("note", text))
    if unused := metrics[f"fold{worst}"]["unused"]:
        is_out = counted(
            unused, "image is in no split: it continues", "images are in no split: they continue"
        )
        found.append(Concern("note", f"{is_out}, to continue none of another split", "split"))
    return found + [Concern("note", text) for text in reading_notes(measures, info)]


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
    pairs_have = counted(len(pairs), "pair of equal images has", "pairs of equal images have")
    return [f"{pairs_have} different masks: {', '.join(texts)}{more}; keep the right one of each"]
