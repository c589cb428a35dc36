"""Comparison: from the scores of all runs to the report."""

import json
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segbench.arrays.store import Header, read_header
from segbench.comparison.class_scores import (
    confusion_of,
    find_class_scores,
    write_class_scores,
    write_confusion_table,
)
from segbench.comparison.content import Content
from segbench.comparison.examples import draw_gallery
from segbench.comparison.expenses import Expenses, gather_expenses
from segbench.comparison.external import ExternalSet, read_external_sets, write_external
from segbench.comparison.leaderboard import Leaderboard, make_leaderboard, per_image
from segbench.comparison.learning_curve import LearningCurve, find_learning_curves
from segbench.comparison.page import PICTURE, write_report
from segbench.comparison.planning import make_plan
from segbench.comparison.published import judge_published
from segbench.comparison.ranking import mean_of
from segbench.comparison.requirements import evaluate_requirements, report_values, require_all
from segbench.comparison.single_images import spread_over_images
from segbench.comparison.subgroups import find_subgroups
from segbench.comparison.tables import text_table, write_tables
from segbench.comparison.verdict import reach_verdict
from segbench.errors import InputError
from segbench.evaluation.results import EXTERNAL, RunResult, external_key, read_result
from segbench.files import atomic_file
from segbench.params import Params
from segbench.params.compare import Comparison
from segbench.report.predictions import fixed_samples
from segbench.tracking import provenance
from segbench.tracking.records import Record, Run, flatten, now_ms, recorded
from segbench.tracking.views import Pictures, describe_views, rank_metric

RUN_NAME = re.compile(r"[a-z0-9_]+-fold\d+-seed\d+")


@dataclass(frozen=True)
class Paths:
    """Where compare reads and writes; see dvc.yaml."""

    arrays: Path
    trained: Path
    metrics: Path
    history: Path
    evaluations: Path
    external_sets: Path
    runs: Path
    split: Path
    costs: Path
    preview: Path
    reports: Path
    out: Path


def compare(params: Params, paths: Paths) -> str:
    """Rank the candidates of all folds and seeds, and write the report.

    Scores and histories of runs that the params no longer name are removed from their folders.

    Returns:
        The verdict, and where the report is; leaderboard.txt in `paths.out` holds the table too.

    Raises:
        InputError: for results that are missing or do not belong together, and, once the report is
            written, for a requirement that is not met.
    """
    header = read_header(paths.arrays)
    folders = paths.metrics, paths.evaluations, paths.history, paths.runs
    runs = [read_result(*key, *folders) for key in params.comparison.runs]
    _remove_former_runs(params, paths)
    _check_same_data(header, runs)
    audit = json.loads(paths.split.read_text())
    board = make_leaderboard(params, runs)
    external = read_external_sets(
        *(params.comparison, board, runs, paths.metrics, paths.external_sets)
    )
    curves = find_learning_curves(params, board, runs)
    rivals = [run for run in runs if run.alias in board.aliases]
    scheme = header.dataset.scheme
    published = judge_published(params, scheme, audit, rivals, board)
    expenses = gather_expenses(params, header, paths.costs, paths.trained, runs)
    values = report_values(board, expenses.predicting)
    requirements = evaluate_requirements(params.comparison.require, values)
    seconds = {alias: effort.seconds for alias, effort in expenses.training.items()}
    plan = (
        make_plan(params.comparison, board.variances, len(board.rows), seconds)
        if board.variances
        else None
    )
    run = _describe(params, header, runs, board, expenses, external)
    with recorded(paths.out / "record", run, params.tracking.max_wait_s) as record:
        content = Content(
            params=params,
            header=header,
            audit=audit,
            runs=runs,
            leaderboard=board,
            verdict=reach_verdict(params.comparison, board, expenses.predicting, audit, runs, plan),
            plan=plan,
            requirements=requirements,
            expenses=expenses,
            external=external,
            learning_curves=curves,
            published=published,
            class_scores=find_class_scores(
                rivals, board.aliases, header, params.comparison.confidence
            ),
            confusion=confusion_of([run for run in rivals if run.alias == board.aliases[0]]),
            subgroups=find_subgroups(
                *(rivals, board.aliases, board.ranking, params.comparison.confidence)
            ),
            gallery=draw_gallery(
                params,
                rivals,
                board.aliases,
                paths.arrays,
                header,
                paths.out / "pictures",
            ),
            single_images=spread_over_images(
                *(rivals, board.aliases, board.ranking, params.comparison.confidence)
            ),
            preview=paths.preview,
            trained=paths.trained,
            provenance=provenance.tags(),
        )
        write_report(content, paths.reports)
        write_tables(board, expenses.predicting, paths.reports)
        write_class_scores(content.class_scores, paths.reports / "classes.csv")
        write_confusion_table(
            content.confusion, header.dataset.classes, paths.reports / "confusion.csv"
        )
        write_external(external, board.ranking, paths.reports / "external.csv")
        _fill_record(record, content, paths.reports)
        report = f"report of {len(board.rows)} candidates in {paths.reports / 'comparison.html'}"
        table = text_table(params.comparison, board, content.verdict)
        said = [*_said_of(external, curves), *(one.sentence for one in published)]
        table = "\n".join([table, *said])
        with atomic_file(paths.out / "leaderboard.txt") as partial:
            partial.write_text(f"{table}\n{report}\n")
        require_all(requirements, paths.reports / "comparison.md")
    return f"{content.verdict.sentence} {report[0].upper()}{report[1:]}"


def _said_of(external: list[ExternalSet], curves: list[LearningCurve]) -> list[str]:
    """What a terminal shows of external sets and learning curves."""
    said = [text for one in external for text in (one.warning, one.sentence) if text]
    untested = "On external sets ranks are by mean score alone; no difference there is tested."
    return [*([*said, untested] if said else []), *(curve.sentence for curve in curves)]


def _remove_former_runs(params: Params, paths: Paths) -> None:
    """Remove files of runs and of external sets that the params no longer name."""
    names, sets = {key.name for key in params.comparison.runs}, params.comparison.external
    of_sets = paths.metrics / EXTERNAL
    for path in sorted(of_sets.iterdir()) if of_sets.exists() else ():
        if path.stem not in sets:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    own = [folder for name in sets if (folder := of_sets / name).exists()]
    for folder in (paths.metrics, paths.history, paths.runs, *own):
        for path in folder.iterdir():
            if RUN_NAME.fullmatch(path.stem) and path.stem not in names:
                path.unlink()
    if of_sets.exists() and not sets:
        of_sets.rmdir()


def _check_same_data(header: Header, runs: list[RunResult]) -> None:
    """Raise InputError for scores that were made from other data than those at hand."""
    for run in runs:
        if run.summary["sha256"]["dataset"] != header.digest:
            raise InputError(
                f"{run.name}: its scores are of other data than what is packed now "
                f"({header.dataset.name}); run 'segbench repro' to score it anew"
            )


def _describe(
    params: Params,
    header: Header,
    runs: list[RunResult],
    board: Leaderboard,
    expenses: Expenses,
    external: list[ExternalSet],
) -> Run:
    """The tracked run of a comparison, the parent of the runs that it compares.

    Args:
        params: all of them.
        header: of the packed arrays.
        runs: that are compared.
        board: their candidates, best first.
        expenses: what these cost.
        external: scores on external sets.
    """
    chosen = params.comparison
    id, now = uuid.uuid4().hex, now_ms()
    aliases = [row.alias for row in board.rows]
    leads = f"leads {len(aliases)} candidates" if len(aliases) > 1 else "alone"
    costs = {
        alias: {
            "cost/parameters_M": cost.parameters / 1e6,
            "cost/latency_ms": cost.latency_ms.median,
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
    return Run(
        id=id,
        stage="compare",
        experiment=header.dataset.name,
        name=f"{chosen.name}: {aliases[0]} {leads}",
        started_ms=now,
        params=flatten(params.model_dump(mode="json", include={"comparison", "report"})),
        tags={**provenance.tags(), "dataset_digest": header.digest},
        children=[run.trained["run"] for run in runs],
        comparison=chosen.name,
        child_metrics={
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
        },
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
    )


def _pictures(chosen: Comparison, runs: list[RunResult]) -> Pictures:
    """What evaluation drew of the first fold and seed."""
    fold, seed = chosen.folds[0], chosen.seeds[0]
    run = next(run for run in runs if (run.fold, run.seed) == (fold, seed))
    ids = run.images.loc[run.images["split"] == "val", "id"]
    return Pictures(fold, seed, [f"prediction/{id}" for id in fixed_samples(ids)])


def _fill_record(record: Record, content: Content, reports: Path) -> None:
    pages = ["comparison.csv", "comparison.md", PICTURE, "comparison.html"]
    names = [*pages, "classes.csv", "confusion.csv"]
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
    record.tags["champion"] = champion.alias
