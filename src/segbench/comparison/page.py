"""The comparison: one Markdown page for a pull request, one HTML file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ruamel.yaml import YAML

from segbench.arrays.store import Header
from segbench.comparison import plots
from segbench.comparison.leaderboard import Standings
from segbench.comparison.requirements import Gate
from segbench.comparison.statistics import Difference, Interval
from segbench.comparison.subgroups import Slice
from segbench.comparison.training_effort import NEAR, Training
from segbench.comparison.verdict import p_in_words
from segbench.evaluation.costs import Cost
from segbench.evaluation.results import leaders
from segbench.metrics.catalogue import DEFINITIONS, MASK_METRICS
from segbench.params import Params
from segbench.report.links import link_to, picture_source
from segbench.report.render import write_page

SHOWN_METRICS = (*MASK_METRICS, "average_precision")
"""Columns of the table of all scores, each with a foot-note."""

VARIANT_WORDS = {
    "": "at evaluate.threshold, at the network's size",
    "_chosen": "by the rule chosen on validation, at the network's size",
    "_original": "at evaluate.threshold, at each image's own size",
    "_original_chosen": "by the rule chosen on validation, at each image's own size",
}


@dataclass(frozen=True)
class Cell:
    """A picture of a sample: where it lies, and the score of what it shows."""

    path: Path
    score: float | None


@dataclass(frozen=True)
class SampleRow:
    """A test image: itself, its truth, and the predictions of the candidates by rank."""

    id: str
    cells: list[Cell]


@dataclass(frozen=True)
class Content:
    """All that the report shows."""

    header: Header
    metric: str
    confidence: float
    verdict: str
    limits: list[str]
    """What must not be taken from the numbers."""
    standings: Standings
    gates: list[Gate]
    costs: dict[str, Cost]
    """Of predicting, by candidate, all on one machine."""
    spent: dict[str, Training]
    machine: str
    tried: pd.DataFrame
    """Validation scores of trials, candidates x learning rates; see `results.by_rate`."""
    slices: list[Slice]
    rules: dict[str, dict[str, Any]]
    """By run: how masks are made that are called chosen, see `deciding.Rule`."""
    histories: list[tuple[str, int, int, pd.DataFrame]]
    """(alias, seed, fold, epochs)."""
    image_scores: dict[str, NDArray[np.float64]]
    """Test score of each image, the mean over runs, by candidate."""
    samples: dict[str, list[SampleRow]]
    """By what they show: `disagree` and `worst`."""
    pictures: str
    """embed, link or none."""
    preview: Path
    progress: dict[str, Path]
    """By run: the animation of a validation sample's prediction over the epochs."""
    facts: dict[str, str]
    audit: dict[str, Any]
    """What the split stage counted; see `auditing.score`."""
    origins: dict[str, dict[str, Any]]
    """Where each candidate's encoder comes from; see `models.origin.Origin`."""
    params: Params
    provenance: dict[str, str]
    hashes: dict[str, dict[str, str]]


def write_report(content: Content, folder: Path) -> None:
    """Write comparison.md and comparison.html; neither holds a date, so that they repeat."""

    def source(cell: Cell) -> str:
        return picture_source(cell.path, content.pictures, folder)

    rows = content.standings.rows
    aliases = [row.alias for row in rows]
    chosen = content.params.model_dump(mode="json", exclude={"report", "tracking"})
    values = {
        "content": content,
        "percent": f"{100 * content.confidence:g} %",
        "rows": rows,
        "aliases": aliases,
        "pairwise": pairwise(content.standings),
        "definitions": {name: DEFINITIONS[name] for name in SHOWN_METRICS},
        "variants": VARIANT_WORDS,
        "rates": leaders(content.tried),
        "pareto": plots.pareto(rows, expenses(content), content.metric),
        "means": plots.means(rows, content.metric, content.confidence),
        "curves": plots.curves(aliases, content.histories),
        "spread": plots.spread(aliases, content.image_scores),
        "odd": {
            name.removesuffix("_masks"): count
            for name, count in content.audit["data"].items()
            if name.endswith("_masks") and count
        },
        "source": source,
        "preview_path": link_to(content.preview, folder),
        "progress": {run: link_to(path, folder) for run, path in content.progress.items()},
        "params_yaml": _as_yaml(chosen),
        "version": version("segbench"),
    }
    for ending in ("md", "html"):
        template = f"comparison/page.{ending}.jinja"
        write_page(folder / f"comparison.{ending}", template, values, FILTERS)


def pairwise(found: Standings) -> list[list[Difference | None]]:
    """The differences as a square: row less column, by numbers of rows; None on the diagonal."""
    numbers = range(len(found.rows))
    return [
        [
            None if i == j else found.differences.get((i, j)) or found.differences[j, i].turned
            for j in numbers
        ]
        for i in numbers
    ]


def _bounds(value: Interval, form: str) -> str:
    return "-" if np.isnan(value.low) else f"{form.format(value.low)} to {form.format(value.high)}"


FILTERS: dict[str, Callable[[Any], str]] = {
    "bounds": partial(_bounds, form="{:.3f}"),
    "signed_bounds": partial(_bounds, form="{:+.3f}"),
    "share": lambda value: "-" if np.isnan(value) else f"{100 * value:.0f} %",
    "p": p_in_words,
}


def expenses(content: Content) -> dict[str, list[float | None]]:
    """What each candidate takes, by what it is: in the order of the rows; None where unknown."""
    costs = [content.costs[row.alias] for row in content.standings.rows]
    spent = [content.spent[row.alias] for row in content.standings.rows]
    return {
        "parameters, millions": [cost.parameters / 1e6 for cost in costs],
        "multiply-adds, billions": [cost.multiply_adds / 1e9 for cost in costs],
        "size on disk, MiB": [cost.weight_bytes / 2**20 for cost in costs],
        "latency of one image, ms": [cost.latency_ms.median for cost in costs],
        "time of an image in a full batch, ms": [
            1000 / cost.images_per_second.median for cost in costs
        ],
        "peak memory, MiB": [cost.peak_mib for cost in costs],
        "training, s": [training.seconds for training in spent],
        f"images to {100 * NEAR:g} % of the best score": [training.images for training in spent],
    }


def text_table(content: Content) -> str:
    """The leaderboard as plain text, for a terminal."""
    metric = content.metric
    percent = f"{100 * content.confidence:g} %"
    head = [
        "#",
        "candidate",
        "parameters",
        f"val {metric}",
        f"test {metric}",
        percent,
        "behind",
        "p",
    ]
    lines = [head]
    for row in content.standings.rows:
        bounds = row.test.low, row.test.high
        gap = row.behind
        lines.append(
            [
                str(row.rank),
                row.alias,
                f"{row.parameters / 1e6:.2f} M",
                f"{row.val.mean:.3f}",
                f"{row.test.mean:.3f}",
                "" if np.isnan(bounds).any() else "[{:.3f}, {:.3f}]".format(*bounds),
                f"{gap.interval.mean:+.3f}" if gap else "",
                p_in_words(gap.p).removeprefix("p ").removeprefix("= ") if gap else "",
            ]
        )
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    table = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(["", *table, "", content.verdict, *content.limits])


def _as_yaml(tree: object) -> str:
    from io import StringIO

    stream = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(tree, stream)
    return stream.getvalue()
