"""The leaderboard as tables: comparison.csv, JSON files for DVC, text for a terminal."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.comparison.leaderboard import (
    Leaderboard,
    LeaderboardRow,
    per_image,
    told_scores,
)
from segbench.comparison.ranking import Ranking
from segbench.comparison.verdict import Verdict, interval_text, p_text
from segbench.evaluation.costs import Cost
from segbench.files import atomic_file, atomic_folder
from segbench.metrics.catalogue import DVC_METRICS, MOST_CLASSES
from segbench.metrics.counts import MEANS_OF_CLASSES
from segbench.params.compare import Comparison


def write_tables(board: Leaderboard, costs: Mapping[str, Cost], folder: Path) -> None:
    """Write comparison.csv, and candidates/<alias>.json, which DVC shows.

    Args:
        board: the leaderboard.
        costs: of predicting, by alias.
        folder: receives the files.
    """
    with atomic_file(folder / "comparison.csv") as partial:
        to_table(board, costs).to_csv(partial, index=False, lineterminator="\n")
    with atomic_folder(folder / "candidates") as partial:
        for row in board.rows:
            metrics = json.dumps(to_metrics(row, board.ranking), indent=2)
            (partial / f"{row.alias}.json").write_text(f"{metrics}\n")


def to_table(board: Leaderboard, costs: Mapping[str, Cost]) -> pd.DataFrame:
    """The leaderboard as comparison.csv holds it: without what was timed, so that it repeats."""
    return pd.DataFrame(
        {
            "rank": row.rank,
            "candidate": row.alias,
            "encoder": row.encoder,
            "weights": row.weights,
            "parameters": row.parameters,
            "runs": row.num_runs,
            "val": row.val.mean,
            "val_low": row.val.low,
            "val_high": row.val.high,
            "test": row.test.mean,
            "test_low": row.test.low,
            "test_high": row.test.high,
            "best_probability": row.p_best,
            **_difference(row, board),
            **{f"test_{name}": value for name, value in told_scores(row).items()},
            "multiply_adds": costs[row.alias].multiply_adds,
            "weight_bytes": costs[row.alias].weight_bytes,
        }
        for row in board.rows
    )


def _difference(row: LeaderboardRow, board: Leaderboard) -> dict[str, float | str]:
    gap = row.difference_to_champion and board.gain(row.difference_to_champion)
    return {
        "behind": gap.interval.mean if gap else 0.0,
        "behind_low": gap.interval.low if gap else 0.0,
        "behind_high": gap.interval.high if gap else 0.0,
        "behind_p": gap.p if gap else np.nan,
        "behind_networks_p": gap.p_of_networks if gap else np.nan,
        "relation": row.relation or "",
        "not_worse_probability": row.p_not_worse,
    }


def to_metrics(row: LeaderboardRow, ranking: Ranking) -> dict[str, float | int | None]:
    """What DVC shows of a candidate beside the others and beside other commits."""
    # A class is called by its pooled dice there.
    metric = per_image(ranking.name) if ranking.parts.by_class else ranking.name
    ranks = {
        f"val_{metric}": row.val.mean,
        f"test_{metric}": row.test.mean,
        f"test_{metric}_low": row.test.low,
        f"test_{metric}_high": row.test.high,
    }
    others = {name: row.scores[name] for name in DVC_METRICS} | _of_classes(row)
    values = ranks | {f"test_{name}": value for name, value in others.items()} | ranks
    # JSON knows no NaN.
    finite = {key: value if np.isfinite(value) else None for key, value in values.items()}
    return {"rank": row.rank, **finite}


def _of_classes(row: LeaderboardRow) -> dict[str, float]:
    """Means over classes, and the score of each unless there are too many to read."""
    each = [name for name in row.pooled if name.startswith("dice_class_")]
    shown = [*MEANS_OF_CLASSES.values(), *(each if len(each) <= MOST_CLASSES else [])]
    return {name: row.pooled[name] for name in shown if name in row.pooled}


def text_table(params: Comparison, board: Leaderboard, verdict: Verdict) -> str:
    """The leaderboard, the verdict and its caveats as plain text, for a terminal.

    Args:
        params: the section.
        board: the leaderboard.
        verdict: what it says.
    """
    lines = [
        [
            *("rank", "candidate", "parameters", f"val {board.ranking.name}"),
            f"test {board.ranking.name} [{100 * params.confidence:g} % interval]",
            *("difference to champion", "p", "it is"),
        ]
    ]
    for row in board.rows:
        gap = row.difference_to_champion
        lines.append(
            [
                str(row.rank),
                row.alias,
                f"{row.parameters / 1e6:.2f} M",
                f"{row.val.mean:.3f}",
                interval_text(row.test),
                f"{gap.interval.mean:+.3f}" if gap else "",
                p_text(gap.p).removeprefix("p ").removeprefix("= ") if gap else "",
                row.relation or "",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(["", *table, "", verdict.sentence, *verdict.caveats])
