"""The verdict over several data sets as tables: CSV files, and text for a terminal."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.comparison.several.board import Board, Row
from segbench.comparison.statistics.across import Claim
from segbench.comparison.verdict import Verdict, p_text
from segbench.files import atomic_file


def write_tables(board: Board, folder: Path) -> None:
    """Write verdict.csv, a row a candidate, and datasets.csv, one a candidate and data set.

    Args:
        board: the candidates.
        folder: receives the files.
    """
    rows = [
        {
            "candidate": row.alias,
            "encoder": row.encoder,
            "parameters": row.parameters,
            "val": row.val,
            "test": row.test,
            "mean_rank": row.rank,
            "rank_p": row.rank_p,
            "middle": row.middle.mean,
            "middle_low": row.middle.low,
            "middle_high": row.middle.high,
            **_claim("these", row.these, row.on_these),
            **_claim("like_these", row.like_these, row.on_like_these),
            "spread": row.spread,
        }
        for row in board.rows
    ]
    each = [
        {
            "dataset": one.label,
            "candidate": row.alias,
            "val": own.val,
            "test": own.test,
            "rank": own.rank,
            "difference": own.difference.interval.mean if own.difference else 0.0,
            "low": own.difference.interval.low if own.difference else 0.0,
            "high": own.difference.interval.high if own.difference else 0.0,
            "error": own.difference.error if own.difference else 0.0,
            "p": own.difference.p if own.difference else np.nan,
        }
        for number, one in enumerate(board.datasets)
        for row in board.rows
        for own in [row.each[number]]
    ]
    for name, table in (("verdict.csv", rows), ("datasets.csv", each)):
        with atomic_file(folder / name) as partial:
            pd.DataFrame(table).to_csv(partial, index=False, lineterminator="\n")


def _claim(name: str, claim: Claim | None, relation: str | None) -> dict[str, float | str]:
    return {
        name: claim.interval.mean if claim else np.nan,
        f"{name}_low": claim.interval.low if claim else np.nan,
        f"{name}_high": claim.interval.high if claim else np.nan,
        f"{name}_p": claim.p if claim else np.nan,
        f"{name}_relation": relation or "",
    }


def text_table(board: Board, verdict: Verdict) -> str:
    """The table, the verdict and its caveats as plain text, for a terminal.

    Args:
        board: the candidates.
        verdict: what it says.
    """
    metric = board.ranking.name
    claims = ["on these data sets", "p", "it is"]
    if board.rows[1].on_like_these:
        claims += ["on data sets like these", "p", "it is"]
    lines = [["candidate", "parameters", f"val {metric}", f"test {metric}", "mean rank", *claims]]
    for row in board.rows:
        lines.append(
            [
                row.alias,
                f"{row.parameters / 1e6:.2f} M",
                f"{row.val:.3f}",
                f"{row.test:.3f}",
                f"{row.rank:.1f}",
                *_cells(row),
            ]
        )
    return "\n".join(["", *_aligned(lines), "", verdict.sentence, *verdict.caveats])


def _cells(row: Row) -> list[str]:
    cells = []
    for claim, relation in (
        (row.these, row.on_these),
        (row.like_these, row.on_like_these),
    ):
        if claim:
            interval, p = claim.interval, p_text(claim.p).removeprefix("p ").removeprefix("= ")
            text = f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
            cells += [text, p, relation or ""]
    return cells


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    width = max(map(len, lines))
    filled = [[*line, *[""] * (width - len(line))] for line in lines]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    return [
        "  ".join(text.ljust(size) for text, size in zip(line, widths, strict=True)).rstrip()
        for line in filled
    ]
