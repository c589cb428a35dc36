"""The comparison: one Markdown page for a pull request, one HTML file."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ruamel.yaml import YAML

from segbench.arrays import Header
from segbench.params import Params
from segbench.pictures import link_to, picture_source
from segbench.report import plots
from segbench.report.pages import write_page
from segbench.statistics import Interval


@dataclass(frozen=True)
class Row:
    """One candidate on the leaderboard; scores are means over images and runs.

    Attributes:
        rank: by validation, 1 is best.
        alias, encoder, weights: who it is.
        parameters: of the whole network.
        num_runs: folds x seeds.
        val: the ranking score on validation.
        test: the ranking score on test, with its bootstrap interval.
        runs: the same for each seed.
        behind: difference to the champion on the same test images; None for the champion.
        scores: dice, iou, precision, recall and accuracy per image on test.
        pooled: the same of the pixels of all test images, and the soft dice of batches, by their
            names in the scores files; means over runs.
    """

    rank: int
    alias: str
    encoder: str
    weights: str
    parameters: int
    num_runs: int
    val: float
    test: Interval
    runs: list[float]
    behind: Interval | None
    scores: dict[str, float]
    pooled: dict[str, float]


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
    rows: list[Row]
    histories: list[tuple[str, int, int, pd.DataFrame]]
    """(alias, seed, fold, epochs)."""
    image_scores: dict[str, NDArray[np.float64]]
    """Test score of each image, the mean over runs, by candidate."""
    samples: list[SampleRow]
    pictures: str
    """embed, link or none."""
    preview: Path
    progress: dict[str, Path]
    """By run: the animation of a validation sample's prediction over the epochs."""
    facts: dict[str, str]
    params: Params
    provenance: dict[str, str]
    hashes: dict[str, dict[str, str]]


def write_report(content: Content, folder: Path) -> None:
    """Write comparison.md and comparison.html; neither holds a date, so that they repeat."""

    def source(cell: Cell) -> str:
        return picture_source(cell.path, content.pictures, folder)

    chosen = content.params.model_dump(mode="json", exclude={"report", "tracking"})
    values = {
        "content": content,
        "percent": f"{100 * content.confidence:g} %",
        "means": plots.means(content.rows, content.metric, content.confidence),
        "curves": plots.curves([row.alias for row in content.rows], content.histories),
        "spread": plots.spread([row.alias for row in content.rows], content.image_scores),
        "source": source,
        "preview_path": link_to(content.preview, folder),
        "progress": {run: link_to(path, folder) for run, path in content.progress.items()},
        "params_yaml": _as_yaml(chosen),
        "version": version("segbench"),
    }
    for name in ("comparison.md", "comparison.html"):
        write_page(folder / name, values)


def text_table(content: Content) -> str:
    """The leaderboard as plain text, for a terminal."""
    metric = content.metric
    percent = f"{100 * content.confidence:g} %"
    head = ["#", "candidate", "parameters", f"val {metric}", f"test {metric}", percent, "behind"]
    lines = [head]
    for row in content.rows:
        lines.append(
            [
                str(row.rank),
                row.alias,
                f"{row.parameters / 1e6:.2f} M",
                f"{row.val:.3f}",
                f"{row.test.mean:.3f}",
                f"[{row.test.low:.3f}, {row.test.high:.3f}]",
                f"{row.behind.mean:+.3f}" if row.behind else "",
            ]
        )
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    table = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(["", *table, "", content.verdict])


def _as_yaml(tree: object) -> str:
    from io import StringIO

    stream = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(tree, stream)
    return stream.getvalue()
