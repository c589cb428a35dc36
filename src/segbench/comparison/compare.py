"""Comparison: from the scores of all runs to the report."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from segbench.arrays.store import Header, read_header
from segbench.comparison.class_scores import (
    confusion_of,
    find_class_scores,
    write_class_scores,
    write_confusion_table,
)
from segbench.comparison.content import Content
from segbench.comparison.examples import draw_gallery
from segbench.comparison.expenses import gather_expenses
from segbench.comparison.external import ExternalSet, read_external_sets, write_external
from segbench.comparison.leaderboard import make_leaderboard
from segbench.comparison.learning_curve import LearningCurve, find_learning_curves
from segbench.comparison.page import write_report
from segbench.comparison.planning import make_plan
from segbench.comparison.published import judge_published
from segbench.comparison.requirements import evaluate_requirements, report_values, require_all
from segbench.comparison.single_images import spread_over_images
from segbench.comparison.subgroups import find_subgroups
from segbench.comparison.tables import text_table, write_tables
from segbench.comparison.tracked import describe_comparison, fill_record
from segbench.comparison.verdict import reach_verdict
from segbench.errors import InputError
from segbench.evaluation.results import EXTERNAL, RunResult, read_result
from segbench.files import atomic_file
from segbench.params import Params
from segbench.tracking import provenance
from segbench.tracking.records import recorded

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
    verdict = reach_verdict(params.comparison, board, expenses.predicting, audit, runs, plan)
    run = describe_comparison(
        params, header, audit, runs, board, expenses, external, verdict, requirements
    )
    with recorded(paths.out / "record", run, params.tracking.max_wait_s) as record:
        content = Content(
            params=params,
            header=header,
            audit=audit,
            runs=runs,
            leaderboard=board,
            verdict=verdict,
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
        fill_record(record, content, paths.reports)
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
