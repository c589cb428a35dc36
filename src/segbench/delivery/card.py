"""The model card: one page about a delivered model, written from the records of its run."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from segbench.arrays.store import Header
from segbench.comparison.data_facts import SPLIT_WORDS
from segbench.comparison.leaderboard import per_image
from segbench.comparison.ranking import Ranking, ranking_of, share_of
from segbench.comparison.scores import score_array
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Panel
from segbench.comparison.statistics.uncertainty import intervals
from segbench.comparison.subgroups import Subgroup, find_subgroups
from segbench.delivery.rescore import Row
from segbench.delivery.usage import usage
from segbench.evaluation.results import RunResult
from segbench.exports.description import Description
from segbench.files import sha256_of
from segbench.params import Params
from segbench.params.model import Candidate
from segbench.report.render import write_page
from segbench.report.words import counted

WORST = 5
"""Kinds of test images that are shown."""
FEWEST = 3
"""Images that such a kind has."""


def write_card(
    params: Params,
    audit: Path,
    table: Path,
    run: RunResult,
    header: Header,
    described: Description,
    rows: Sequence[Row],
    folder: Path,
) -> None:
    """Write card.md into a delivery.

    Args:
        params: all of them.
        audit: what the split stage counted.
        table: the comparison's leaderboard; it may be missing.
        run: that is delivered.
        header: of the packed arrays.
        described: what is delivered.
        rows: of its runtimes.
        folder: of the delivery, with all other files.
    """
    ranking, confidence = ranking_of(params), params.comparison.confidence
    candidate = params.candidates[run.alias]
    split = json.loads(audit.read_text(encoding="utf-8"))[f"fold{run.fold}"]
    write_page(
        folder / "card.md",
        "delivery/card.md.jinja",
        {
            "about": described,
            "run": run,
            "candidate": candidate,
            "params": params,
            "split": split,
            "split_words": SPLIT_WORDS[params.split.by],
            "leaks": [
                f"{count} {name.replace('_', ' ')}"
                for name, count in split["leaks"].items()
                if count
            ],
            "origin": run.trained["origin"],
            "epochs": len(run.history),
            "percent": f"{100 * confidence:g} %",
            "scores": _scores(run, ranking, confidence),
            "lower_is_better": ranking.lower_is_better,
            "rank": _standing(table, run.alias),
            "worst": worst_slices(run, ranking, confidence),
            "rows": rows,
            "licence_of_weights": licence_of_weights(candidate),
            "usage": Markup(usage(described).strip()),
            "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
            "versions": {name: version(name) for name in ("torch", "onnx", "onnxruntime")},
        },
        {"bounds": _bounds, "counted_of": counted},
    )


def _scores(run: RunResult, ranking: Ranking, confidence: float) -> dict[str, Interval]:
    """Test scores of this network with their intervals over groups of images, by name."""
    names = dict.fromkeys(("dice_chosen", "iou_chosen", "dice_original_chosen", ranking.name))
    found = {}
    for name in names:
        own = ranking if name == ranking.name else share_of(name)
        found[per_image(name)] = interval_of(run, own, confidence)
    return found


def interval_of(run: RunResult, ranking: Ranking, confidence: float) -> Interval:
    """The test score of a single network, with its interval over groups of images."""
    scores = score_array([run], [run.alias], "test", ranking)
    panel = Panel(scores.values, scores.groups, scores.folds, scores.weights)
    (found,) = intervals(panel, confidence, ranking.most)
    return found


def worst_slices(run: RunResult, ranking: Ranking, confidence: float) -> list[Subgroup]:
    """Kinds of test images on which a network scores worst, the worst first."""
    kinds = find_subgroups([run], [run.alias], ranking, confidence)
    known = [kind for kind in kinds if kind.images >= FEWEST and np.isfinite(kind.scores[0].mean)]
    values = ranking.upward(np.array([kind.scores[0].mean for kind in known]))
    return [known[at] for at in np.argsort(values, kind="stable")[:WORST]]


def _standing(table: Path, alias: str) -> dict[str, Any] | None:
    """The candidate's row of the leaderboard, with how many there are; None without one."""
    if not table.exists():
        return None
    rows = pd.read_csv(table)
    own = rows[rows["candidate"] == alias]
    if own.empty:
        return None
    row: Mapping[Any, Any] = own.iloc[0].to_dict()
    others = rows[rows["candidate"] != alias]
    return {
        **row,
        "of": len(rows),
        "first": rows["candidate"].iloc[0] == alias,
        "others": [
            f"{name} ({relation})" if isinstance(relation, str) else str(name)
            for name, relation in zip(others["candidate"], others["relation"], strict=True)
        ],
    }


def licence_of_weights(candidate: Candidate) -> str:
    """Of what the encoder began with, as far as that is stated anywhere."""
    if candidate.from_scratch:
        return "none: it was trained from random weights"
    if candidate.weights == "imagenet" and candidate.encoder.startswith("tu-"):
        import timm

        config = timm.get_pretrained_cfg(candidate.encoder.removeprefix("tu-"))
        if config is not None and config.license:
            return f"{config.license}, says timm"
    return "not stated with them; ask where they came from before you pass the model on"


def _bounds(value: Interval) -> str:
    return "-" if np.isnan(value.low) else f"{value.low:.3f} to {value.high:.3f}"
