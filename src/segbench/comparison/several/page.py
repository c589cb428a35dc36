"""The page of a verdict over several data sets, as Markdown and as one HTML file."""

from pathlib import Path

from segbench.comparison import plots
from segbench.comparison.filters import FILTERS
from segbench.comparison.several.board import Board, Row, make_board
from segbench.comparison.several.finished import Layout, Together, read_together
from segbench.comparison.several.tables import text_table, write_tables
from segbench.comparison.several.words import reach_verdict
from segbench.comparison.statistics.across import FEWEST_DATASETS
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Design
from segbench.comparison.verdict import Verdict
from segbench.report.render import write_page

DESIGNS: dict[Design, str] = {
    "one training": "these trained networks",
    "seeds": "networks trained anew",
    "folds": "networks trained anew, on other images too",
}
"""What a data set's own comparison can speak of."""


def judge_together(folders: list[Path], layout: Layout, out: Path) -> str:
    """One verdict over finished comparisons: write its page and tables.

    Args:
        folders: of the comparisons.
        layout: of each.
        out: folder that receives verdict.html, verdict.md, verdict.csv and datasets.csv.

    Returns:
        The table, the verdict and its caveats.

    Raises:
        InputError: see `read_together` and `make_board`.
    """
    together = read_together(folders, layout)
    board = make_board(together)
    verdict = reach_verdict(together, board)
    _write_page(together, board, verdict, out)
    write_tables(board, out)
    return text_table(board, verdict)


def _write_page(together: Together, board: Board, verdict: Verdict, out: Path) -> None:
    chosen = together.params.comparison
    values = {
        "board": board,
        "verdict": verdict,
        "champion": board.rows[0],
        "metric": board.ranking.name,
        "lower": board.ranking.lower_is_better,
        "matters": f"{chosen.smallest_that_matters:g}",
        "percent": f"{100 * chosen.confidence:g} %",
        "alpha": f"{1 - chosen.confidence:.2g}",
        "likes": len(board.datasets) >= FEWEST_DATASETS,
        "fewest": FEWEST_DATASETS,
        "designs": DESIGNS,
        "forest": plots.forest(
            {row.alias: _forest(row, board) for row in board.rows[1:]},
            chosen.smallest_that_matters,
            f"difference in test {board.ranking.name} to {board.rows[0].alias}, "
            f"{100 * chosen.confidence:g} % intervals",
        ),
    }
    for ending in ("md", "html"):
        template = f"comparison/several/page.{ending}.jinja"
        write_page(out / f"verdict.{ending}", template, values, FILTERS)


def _forest(row: Row, board: Board) -> list[tuple[str, Interval, bool]]:
    drawn = [
        (one.label, own.difference.interval, False)
        for one, own in zip(board.datasets, row.each, strict=True)
        if own.difference
    ]
    for name, claim in (
        ("on these data sets", row.these),
        ("on data sets like these", row.like_these),
    ):
        if claim:
            drawn.append((name, claim.interval, True))
    return drawn
