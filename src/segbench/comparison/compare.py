"""Comparison: from the scores of all runs to the report."""

import json
import re
import uuid
from collections.abc import Mapping

import numpy as np
import pandas as pd

from segbench.arrays.store import Header, open_arrays, read_header
from segbench.comparison.examples import draw_samples
from segbench.comparison.leaderboard import Row, per_image, standings
from segbench.comparison.page import Content, text_table, write_report
from segbench.comparison.requirements import check, claims, insist
from segbench.comparison.subgroups import slices
from segbench.comparison.training_effort import Training, training_cost
from segbench.comparison.verdict import limits, verdict
from segbench.errors import InputError
from segbench.evaluation.costs import Cost, machine_of_costs, read_costs
from segbench.evaluation.results import (
    Evaluated,
    Paths,
    by_rate,
    read_scored,
    run_keys,
    run_names,
    scores_of,
)
from segbench.files import atomic_file, atomic_folder
from segbench.metrics.catalogue import DVC_METRICS
from segbench.params import Params
from segbench.report.links import picture_mode
from segbench.tracking import provenance
from segbench.tracking.records import Run, flatten, now_ms, recorded

RUN_NAME = re.compile(r"[a-z0-9_]+-fold\d+-seed\d+")


def compare(params: Params, paths: Paths) -> str:
    """Rank the candidates of all folds and seeds, and write the report.

    Scores and histories of runs that the params no longer name are removed from their folders.

    Returns:
        The leaderboard, which leaderboard.txt holds too, and where the report is.
    """
    names = run_names(params)
    header = read_header(paths.arrays)
    runs = [read_scored(paths, *key) for key in run_keys(params)]
    for folder in (paths.metrics, paths.history, paths.runs):
        for path in folder.iterdir():
            if RUN_NAME.fullmatch(path.stem) and path.stem not in names:
                path.unlink()
    _check_same_data(header, runs)
    found = standings(params, runs)
    rows = found.rows
    aliases = [row.alias for row in rows]
    audit = json.loads(paths.split.read_text())
    leaky = any(any(audit[f"fold{fold}"]["leaks"].values()) for fold in params.comparison.folds)
    costs = read_costs(paths.costs, params, header)
    spent = {alias: _training_cost(params, paths, runs, alias) for alias in aliases}
    gates = check(params.comparison.require, claims(found, costs))
    record_folder = paths.out / "record"
    run = _describe(params, header, paths, names)
    with recorded(record_folder, run, params.tracking.max_wait_s) as record:
        pictures = paths.out / "pictures"
        content = Content(
            header=header,
            metric=params.comparison.metric,
            confidence=params.comparison.confidence,
            verdict=verdict(params.comparison, found, leaky),
            limits=limits(
                params.comparison, found, {run.name: run.trained["rollbacks"] for run in runs}
            ),
            standings=found,
            gates=gates,
            costs=costs,
            spent=spent,
            machine=str(machine_of_costs(paths.costs, params, header)),
            tried=by_rate((run.alias, run.trained) for run in runs),
            slices=slices(runs, aliases, params.comparison.metric),
            rules={run.name: run.summary["chosen"] for run in runs},
            histories=[(run.alias, run.seed, run.fold, run.history) for run in runs],
            image_scores=_scores_by_candidate(params, runs),
            samples=draw_samples(params, paths, aliases, runs, pictures),
            pictures=picture_mode(params.report.pictures, header.dataset.redistributable),
            preview=paths.preview,
            progress={
                run.name: paths.trained / run.name / "record/artifacts/pictures/progress.gif"
                for run in runs
            },
            facts=_facts(params, header, runs, leaky),
            audit=audit,
            origins={run.alias: run.trained["origin"] for run in runs},
            params=params,
            provenance=provenance.tags(),
            hashes={run.name: run.summary["sha256"] for run in runs},
        )
        write_report(content, paths.reports)
        with atomic_file(paths.reports / "comparison.csv") as partial:
            to_table(rows, costs).to_csv(partial, index=False, lineterminator="\n")
        with atomic_folder(paths.reports / "candidates") as folder:
            for row in rows:
                told = json.dumps(to_metrics(row, params.comparison.metric), indent=2)
                (folder / f"{row.alias}.json").write_text(f"{told}\n")
        for name in ("comparison.csv", "comparison.md", "comparison.html"):
            record.artifact(f"report/{name}").write_bytes((paths.reports / name).read_bytes())
        record.artifact(f"data/{paths.preview.name}").write_bytes(paths.preview.read_bytes())
        metric = f"{params.comparison.metric}_per_image"
        # The champion's, under the keys of the runs below it.
        record.log(0, {f"val/{metric}": rows[0].val.mean, f"test/{metric}": rows[0].test.mean})
        record.tags["champion"] = rows[0].alias
        closing = (
            f"{text_table(content)}\n"
            f"report of {len(rows)} candidates in {paths.reports / 'comparison.html'}"
        )
        with atomic_file(paths.out / "leaderboard.txt") as partial:
            partial.write_text(f"{closing}\n")
        insist(gates, paths.reports / "comparison.md")
    return closing


def _training_cost(params: Params, paths: Paths, runs: list[Evaluated], alias: str) -> Training:
    own = [run for run in runs if run.alias == alias]
    return training_cost(
        params,
        [run.history for run in own],
        [run.trained["tuning"] for run in own],
        [paths.trained / run.name / "record" for run in own],
        [len(open_arrays(paths.arrays / f"fold{run.fold}" / "train").images) for run in own],
    )


def to_table(rows: list[Row], costs: Mapping[str, Cost]) -> pd.DataFrame:
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
            "best_probability": row.best,
            "behind": row.behind.interval.mean if row.behind else 0.0,
            "behind_low": row.behind.interval.low if row.behind else 0.0,
            "behind_high": row.behind.interval.high if row.behind else 0.0,
            "behind_p": row.behind.p if row.behind else np.nan,
            **{f"test_{per_image(name)}": value for name, value in row.scores.items()},
            **{f"test_{name}": value for name, value in row.pooled.items()},
            "multiply_adds": costs[row.alias].multiply_adds,
            "weight_bytes": costs[row.alias].weight_bytes,
        }
        for row in rows
    )


def to_metrics(row: Row, metric: str) -> dict[str, float | int | None]:
    """What DVC shows of a candidate beside the others and beside other commits."""
    told = {
        f"val_{metric}": row.val.mean,
        f"test_{metric}": row.test.mean,
        f"test_{metric}_low": row.test.low,
        f"test_{metric}_high": row.test.high,
        **{f"test_{name}": row.scores[name] for name in DVC_METRICS},
    }
    # JSON knows no NaN.
    finite = {key: value if np.isfinite(value) else None for key, value in told.items()}
    return {"rank": row.rank, **finite}


def _scores_by_candidate(params: Params, runs: list[Evaluated]) -> dict[str, np.ndarray]:
    metric = params.comparison.metric
    return {
        alias: pd.DataFrame(scores_of(runs, [alias], "test", metric)[0][0]).mean().to_numpy()
        for alias in params.comparison.candidates
    }


def _check_same_data(header: Header, runs: list[Evaluated]) -> None:
    """Raise InputError for scores that were made from other data than those at hand."""
    for run in runs:
        if run.summary["sha256"]["dataset"] != header.digest:
            raise InputError(
                f"{run.name}: its scores are of other data than what is packed now "
                f"({header.dataset.name}); run 'dvc repro' to score it anew"
            )


def _facts(params: Params, header: Header, runs: list[Evaluated], leaky: bool) -> dict[str, str]:
    """What the reader must know of the data behind the numbers."""
    folds = f"{params.split.num_folds} folds" if params.split.num_folds > 1 else "one fold"
    how = f"by {params.split.by}, seed {params.split.seed}, {folds}"
    patches = params.augment.patches
    leak = "leaks" if leaky else "no leak found"
    first = [run for run in runs if (run.alias, run.seed) == (runs[0].alias, runs[0].seed)]
    images = pd.concat([run.images for run in first])
    facts = {
        "Dataset": f"{header.dataset.name}, {header.dataset.licence}",
        "Classes": ", ".join(header.dataset.classes),
        "Size": f"{header.width}x{header.height}, {header.channels} channels",
        "Split": f"{how}; {leak}",
    }
    if patches:
        facts["Scores"] = (
            f"of whole images, put together from overlapping patches of {patches.width}x"
            f"{patches.height}; in training, validation scores are of patches"
        )
    if params.evaluate.flips:
        facts["Prediction"] = "mean over each image and its three mirror images"
    if header.dataset.citation:
        facts["Cite"] = header.dataset.citation
    for split, label in (("val", "Validation"), ("test", "Test")):
        rows = images[images["split"] == split]
        missing = int(rows["dice"].isna().sum())
        facts[label] = f"{len(rows)} images in {rows['group'].nunique()} groups" + (
            f", {missing} without score (truth and prediction empty)" if missing else ""
        )
    facts["Runs"] = (
        f"{len(runs)}: {len(params.comparison.candidates)} candidates, "
        f"seeds {params.comparison.seeds}, folds {params.comparison.folds}"
    )
    return facts


def _describe(params: Params, header: Header, paths: Paths, names: list[str]) -> Run:
    chosen = params.model_dump(mode="json", include={"comparison", "report"})
    return Run(
        id=uuid.uuid4().hex,
        stage="compare",
        experiment=header.dataset.name,
        name=params.comparison.name,
        started_ms=now_ms(),
        params=flatten(chosen),
        tags={**provenance.tags(), "dataset_digest": header.digest},
        children=[json.loads((paths.runs / f"{name}.json").read_text())["run"] for name in names],
    )
