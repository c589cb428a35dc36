"""What MLflow is told of a comparison."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from segbench.arrays.store import Header
from segbench.comparison.content import Content
from segbench.comparison.data_facts import leaks
from segbench.comparison.expenses import Expenses
from segbench.comparison.external import ExternalSet
from segbench.comparison.leaderboard import Leaderboard, per_image
from segbench.comparison.ranking import mean_of
from segbench.comparison.requirements import Requirement
from segbench.comparison.verdict import Verdict, interval_text, list_of, p_text
from segbench.evaluation.results import RunResult, external_key
from segbench.labels import CLASS_DICE
from segbench.metrics.catalogue import MOST_CLASSES
from segbench.params import Params
from segbench.params.compare import Comparison
from segbench.report.predictions import fixed_samples
from segbench.tracking import provenance
from segbench.tracking.records import (
    REPORT,
    Champion,
    DatasetInput,
    Record,
    Run,
    flatten,
    now_ms,
    split_digest,
)
from segbench.tracking.views import Pictures, describe_views, rank_metric

DIGITS = 9
"""Of numbers in the hash of a comparison: processors differ in what lies behind them."""


def describe_comparison(
    params: Params,
    header: Header,
    audit: Mapping[str, Any],
    runs: list[RunResult],
    board: Leaderboard,
    expenses: Expenses,
    external: list[ExternalSet],
    verdict: Verdict,
    requirements: Sequence[Requirement],
) -> Run:
    """The tracked run of a comparison, the parent of the runs that it compares.

    Its id is the hash of what it compares and says, so that the same comparison made anew, on
    whatever machine, is the same run.

    Args:
        params: all of them.
        header: of the packed arrays.
        audit: what the split stage counted.
        runs: that are compared.
        board: their candidates, best first.
        expenses: what these cost.
        external: scores on external sets.
        verdict: in words.
        requirements: evaluated.
    """
    chosen = params.comparison
    now = now_ms()
    aliases = [row.alias for row in board.rows]
    leads = f"leads {len(aliases)} candidates" if len(aliases) > 1 else "alone"
    costs = {
        alias: {
            "cost/parameters_M": cost.parameters / 1e6,
            "cost/latency_ms": cost.latency_ms.median,
            **{
                f"cost/latency_{name}_ms": latency.median
                for name, latency in cost.other_latencies_ms.items()
            },
            "cost/memory_MiB": cost.peak_mib,
            "cost/training_s": expenses.training[alias].seconds,
        }
        for alias, cost in expenses.predicting.items()
    }
    ranks = {row.alias: {rank_metric(chosen.name): float(row.rank)} for row in board.rows}
    ranking = {split: f"{chosen.name}/{split}_{board.ranking.name}" for split in ("test", "val")}
    own = per_image(board.ranking.name)
    others = [
        f"test/{name}" for name in ("iou_per_image", "hausdorff95_per_image_original", "dice_micro")
    ]
    scores = [
        *ranking.values(),
        *(name for name in others if name != f"test/{own}"),
        *(f"{external_key(one.name)}/{own}" for one in external),
    ]
    child_metrics = {
        run.trained["run"]: {
            key: round(value, 3) if key in costs[run.alias] else value
            for key, value in {
                **ranks.get(run.alias, {}),
                **{
                    key: mean_of([board.ranking.of_images(run, split)])
                    for split, key in ranking.items()
                },
                **costs[run.alias],
            }.items()
            if value is not None and np.isfinite(value)
        }
        for run in runs
    }
    champion = _champion(params, header, audit, runs, board, verdict, requirements)
    flat = flatten(params.model_dump(mode="json", include={"comparison", "report"}))
    name = f"{chosen.name}: {aliases[0]} {leads}"
    said = [verdict.sentence, verdict.caveats, [asdict(one) for one in requirements]]
    measured = {run.name: [run.trained["run"], run.summary["sha256"]] for run in runs}
    sets = [[one.name, [[row.alias, row.score.mean] for row in one.rows]] for one in external]
    id = _hash(
        [header.dataset.name, name, flat, child_metrics, asdict(champion), said, measured, sets]
    )
    return Run(
        id=id,
        stage="compare",
        experiment=header.dataset.name,
        name=name,
        started_ms=now,
        params=flat,
        tags={
            **provenance.tags(),
            "dataset_digest": header.digest,
            "verdict": verdict.headline,
            **_told_of(requirements),
            "mlflow.note.content": f"{verdict.sentence}\n\nReport: artifact `{REPORT}`.",
        },
        inputs=[DatasetInput(header.dataset.name, champion.data, "", {}, "test")],
        children=[run.trained["run"] for run in runs],
        comparison=chosen.name,
        child_metrics=child_metrics,
        views=describe_views(
            chosen.name,
            id,
            aliases,
            scores,
            sorted(costs[aliases[0]], key=lambda cost: chosen.cost not in cost),
            now,
            _pictures(chosen, runs),
            board.ranking.lower_is_better,
        ),
        champion=champion,
    )


def _hash(content: Any) -> str:
    """Hash of what JSON can hold, as long as a random id."""
    text = json.dumps(_rounded(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _rounded(content: Any) -> Any:
    """The same with all numbers as text of few digits."""
    if isinstance(content, Mapping):
        return {str(key): _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return f"{content:.{DIGITS}g}" if isinstance(content, float) else content


def _told_of(requirements: Sequence[Requirement]) -> dict[str, str]:
    """Outcomes of requirements, as tags."""
    if not requirements:
        return {"requirements": "none"}
    met = sum(one.is_met for one in requirements)
    return {
        "requirements": f"{met} of {len(requirements)} met",
        **{
            f"requirement.{at}": f"{'met' if one.is_met else 'not met'}: {one.text} "
            f"({one.values_text})"
            for at, one in enumerate(requirements, 1)
        },
    }


def _champion(
    params: Params,
    header: Header,
    audit: Mapping[str, Any],
    runs: list[RunResult],
    board: Leaderboard,
    verdict: Verdict,
    requirements: Sequence[Requirement],
) -> Champion:
    """The champion's model, and what speaks against it."""
    chosen, row, rest = params.comparison, board.rows[0], board.rows[1:]
    own = best_run([run for run in runs if run.alias == row.alias])
    several = len(chosen.folds) > 1
    tested = [
        f"{run.fold} {id}" if several else str(id)
        for run in runs
        for id in run.images.loc[run.images["split"] == "test", "id"]
    ]
    doubts = [f"requirement '{one.text}' is not met" for one in requirements if not one.is_met]
    if better := [one.alias for one in rest if one.relation == "better"]:
        doubts.append(f"on test {list_of(better)} did better")
    if leaks(audit, chosen.folds):
        doubts.append("the split leaks")
    metric = per_image(board.ranking.name)
    relations = {one.alias: str(one.relation or "champion") for one in board.rows}
    gap = rest[0].difference_to_champion if rest else None
    return Champion(
        model=re.sub(r"[^A-Za-z0-9._-]+", "-", f"{header.dataset.name}-{chosen.name}")[:100],
        run=own.trained["run"],
        score=row.test.mean,
        metric=metric,
        lower_is_better=board.ranking.lower_is_better,
        data=split_digest(header.digest, tested),
        doubts=doubts,
        relations={
            run.trained["run"]: relations[run.alias] for run in runs if run.alias in relations
        },
        tags={
            "candidate": row.alias,
            "encoder": row.encoder,
            "weights": row.weights,
            metric: interval_text(row.test),
            "p": f"{p_text(gap.p)}, to {rest[0].alias}" if gap else "no other candidate",
            "verdict": verdict.sentence,
            **_told_of(requirements),
            "comparison": chosen.name,
            "dataset": header.dataset.name,
            "dataset_digest": header.digest,
            "licence": header.dataset.licence,
        },
    )


def best_run(runs: Sequence[RunResult]) -> RunResult:
    """The run that stands for a candidate: the best on validation, by its own mask rule."""

    def score(run: RunResult) -> float:
        value = run.summary.get("val/dice_per_image_chosen")
        return -1.0 if value is None else value

    return min(runs, key=lambda run: (-score(run), run.fold, run.seed))


def _pictures(chosen: Comparison, runs: list[RunResult]) -> Pictures:
    """What evaluation drew of the first fold and seed."""
    fold, seed = chosen.folds[0], chosen.seeds[0]
    run = next(run for run in runs if (run.fold, run.seed) == (fold, seed))
    ids = run.images.loc[run.images["split"] == "val", "id"]
    return Pictures(fold, seed, [f"prediction/{id}" for id in fixed_samples(ids)])


def fill_record(record: Record, content: Content, reports: Path) -> None:
    """Add the report and what it says of the champion to a comparison's record."""
    # Not the picture beside the Markdown page: an SVG may hold a script, so that no record has one.
    names = ["comparison.csv", "comparison.md", "comparison.html", "classes.csv", "confusion.csv"]
    for name in [*names, "external.csv"] if content.external else names:
        record.artifact(f"report/{name}").write_bytes((reports / name).read_bytes())
    preview = content.preview
    record.artifact(f"data/{preview.name}").write_bytes(preview.read_bytes())
    champion = content.leaderboard.rows[0]
    metric = per_image(content.leaderboard.ranking.name)
    # Under the keys of the runs below it.
    record.log(0, {f"val/{metric}": champion.val.mean, f"test/{metric}": champion.test.mean})
    for one in content.external:
        (row,) = (row for row in one.rows if row.alias == champion.alias)
        if np.isfinite(row.score.mean):
            record.log(0, {f"{external_key(one.name)}/{metric}": row.score.mean})
    classes = {key: value for key, value in champion.pooled.items() if key.startswith(CLASS_DICE)}
    if len(classes) <= MOST_CLASSES:
        told = {f"test/{key}": value for key, value in classes.items() if np.isfinite(value)}
        record.log(0, told)
    record.tags["champion"] = champion.alias
