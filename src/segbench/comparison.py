"""Comparison: from the scores of all runs to a leaderboard and a verdict."""

import json
import re
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from segbench import provenance
from segbench.arrays import Header, open_arrays, read_header
from segbench.params import Candidate, Params
from segbench.pictures import outline, picture_mode, shrink
from segbench.records import Run, flatten, now_ms, recorded
from segbench.report.comparison import (
    Cell,
    Content,
    Row,
    SampleRow,
    text_table,
    write_report,
)
from segbench.results import (
    SCORES,
    Paths,
    Scored,
    image_scores,
    read_predictions,
    read_scored,
    run_keys,
    run_names,
)
from segbench.samples import Pixels
from segbench.statistics import Interval, interval, resampled_means
from segbench.tiling import Wholes
from segbench.writing import whole_file, whole_folder

# With fewer groups, not even a lead in each of them is significant at 5 % (two-sided sign test).
FEWEST_GROUPS, COARSE_GROUPS = 6, 20
RUN_NAME = re.compile(r"[a-z0-9_]+-fold\d+-seed\d+")
POOLED = (*(f"{score}_micro" for score in SCORES), "dice_soft_batch")
BOOTSTRAP_SEED = 0
"""Of the resampling; the interval of a result must not change when it is looked at again."""


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
    rows = leaderboard(params, runs)
    record_folder = paths.out / "record"
    run = _describe(params, header, paths, names)
    with recorded(record_folder, run, params.tracking.max_wait_s) as record:
        pictures = paths.out / "pictures"
        samples = write_samples(params, header, paths, rows, runs, pictures)
        content = Content(
            header=header,
            metric=params.comparison.metric,
            confidence=params.comparison.confidence,
            verdict=verdict(params, rows, runs, _is_leaky(params, paths)),
            rows=rows,
            histories=[(run.alias, run.seed, run.fold, run.history) for run in runs],
            image_scores=_scores_by_candidate(params, runs),
            samples=samples,
            pictures=picture_mode(params.report.pictures, header.dataset.redistributable),
            preview=paths.preview,
            progress={
                run.name: paths.trained / run.name / "record/artifacts/pictures/progress.gif"
                for run in runs
            },
            facts=_facts(params, header, runs, paths),
            params=params,
            provenance=provenance.tags(),
            hashes={run.name: run.summary["sha256"] for run in runs},
        )
        write_report(content, paths.reports)
        with whole_file(paths.reports / "comparison.csv") as partial:
            to_table(rows).to_csv(partial, index=False, lineterminator="\n")
        for name in ("comparison.csv", "comparison.md", "comparison.html"):
            record.artifact(f"report/{name}").write_bytes((paths.reports / name).read_bytes())
        record.artifact(f"data/{paths.preview.name}").write_bytes(paths.preview.read_bytes())
        metric = f"{params.comparison.metric}_per_image"
        # The champion's, under the keys of the runs below it.
        record.log(0, {f"val/{metric}": rows[0].val, f"test/{metric}": rows[0].test.mean})
        record.tags["champion"] = rows[0].alias
        closing = (
            f"{text_table(content)}\n"
            f"report of {len(rows)} candidates in {paths.reports / 'comparison.html'}"
        )
        with whole_file(paths.out / "leaderboard.txt") as partial:
            partial.write_text(f"{closing}\n")
    return closing


def leaderboard(params: Params, runs: list[Scored]) -> list[Row]:
    """One row a candidate, best first by the mean over validation images and seeds."""
    chosen = params.comparison
    means: dict[str, np.ndarray] = {}
    test: dict[str, np.ndarray] = {}
    val: dict[str, float] = {}
    for alias in chosen.candidates:
        test[alias], groups = image_scores(runs, alias, "test", chosen.metric)
        val[alias] = float(np.nanmean(image_scores(runs, alias, "val", chosen.metric)[0]))
        means[alias] = resampled_means(test[alias], groups, chosen.num_resamples, BOOTSTRAP_SEED)
    order = sorted(chosen.candidates, key=lambda alias: -np.nan_to_num(val[alias], nan=-1.0))
    champion = order[0]
    rows = []
    for rank, alias in enumerate(order, start=1):
        own = [run for run in runs if run.alias == alias]
        mean = float(np.nanmean(test[alias]))
        behind = None
        if alias != champion:
            difference = mean - float(np.nanmean(test[champion]))
            resampled = means[alias] - means[champion]
            behind = interval(resampled, difference, chosen.confidence)
        others = {
            score: float(np.nanmean(image_scores(runs, alias, "test", score)[0]))
            for score in SCORES
        }
        rows.append(
            Row(
                rank=rank,
                alias=alias,
                encoder=params.candidates[alias].encoder,
                weights=_weights_name(params.candidates[alias]),
                parameters=own[0].summary["parameters"],
                num_runs=len(own),
                val=val[alias],
                test=interval(means[alias], mean, chosen.confidence),
                runs=[float(np.nanmean(scores)) for scores in test[alias]],
                behind=behind,
                scores=others,
                pooled={
                    name: float(np.mean([_number(run.summary[f"test/{name}"]) for run in own]))
                    for name in POOLED
                },
            )
        )
    return rows


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _weights_name(candidate: Candidate) -> str:
    if candidate.weights_sha256 is None:
        return {"none": "from scratch"}.get(candidate.weights, candidate.weights)
    return f"{Path(candidate.weights).name} ({candidate.weights_sha256[:8]})"


def verdict(params: Params, rows: list[Row], runs: list[Scored], leaky: bool) -> str:
    """Who wins and how sure that is, in a sentence or two; first of all, if the split leaks."""
    metric = params.comparison.metric
    champion = rows[0]
    lead = ("The split leaks (audit.html), so all scores flatter. " if leaky else "") + (
        f"{champion.alias} has the best validation {metric} ({champion.val:.3f}) and reaches "
        f"{_words(champion.test)} on test."
    )
    if len(rows) == 1:
        return lead
    _, groups = image_scores(runs, champion.alias, "test", metric)
    number = len(set(groups))
    if number < FEWEST_GROUPS:
        return (
            f"{lead} With {number} independent groups of test images (below {FEWEST_GROUPS}), the "
            "test set can neither confirm nor refute a lead."
        )
    beaten = [row.alias for row in rows[1:] if row.behind and row.behind.high < 0]
    ahead = [row.alias for row in rows[1:] if row.behind and row.behind.low > 0]
    open_ = [row.alias for row in rows[1:] if row.alias not in beaten + ahead]
    parts = []
    if beaten:
        parts.append(f"The test set confirms its lead over {_and(beaten)}.")
    if open_:
        parts.append(f"The test set cannot tell it from {_and(open_)}.")
    if ahead:
        parts.append(f"The test set contradicts: {_and(ahead)} did better there.")
    if number < COARSE_GROUPS:
        parts.append(f"With {number} independent groups of test images, intervals are coarse.")
    return " ".join([lead, *parts])


def _words(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def to_table(rows: list[Row]) -> pd.DataFrame:
    """The leaderboard as comparison.csv holds it."""
    return pd.DataFrame(
        {
            "rank": row.rank,
            "candidate": row.alias,
            "encoder": row.encoder,
            "weights": row.weights,
            "parameters": row.parameters,
            "runs": row.num_runs,
            "val": row.val,
            "test": row.test.mean,
            "test_low": row.test.low,
            "test_high": row.test.high,
            "behind": row.behind.mean if row.behind else 0.0,
            "behind_low": row.behind.low if row.behind else 0.0,
            "behind_high": row.behind.high if row.behind else 0.0,
            **{f"test_{score}_per_image": row.scores[score] for score in SCORES},
            **{f"test_{name}": value for name, value in row.pooled.items()},
        }
        for row in rows
    )


def write_samples(
    params: Params,
    header: Header,
    paths: Paths,
    rows: list[Row],
    runs: list[Scored],
    folder: Path,
) -> list[SampleRow]:
    """Draw test images with the predictions of all candidates, from the worst to the best scored.

    A candidate's prediction is that of its first seed, in the first fold.

    Returns:
        A row for each image; its pictures lie in `folder`.
    """
    fold = params.comparison.folds[0]
    shown = {run.alias: run for run in reversed(runs) if run.fold == fold}
    wholes = Wholes(open_arrays(paths.arrays / f"fold{fold}" / "test"))
    scores = {
        alias: run.images[run.images["split"] == "test"].set_index("id")[params.comparison.metric]
        for alias, run in shown.items()
    }
    mean = pd.DataFrame(scores).mean(axis=1).dropna().sort_values(kind="stable")
    count = min(params.report.num_samples, len(mean))
    picked = [str(mean.index[at]) for at in np.linspace(0, len(mean) - 1, count).astype(int)]
    at = {str(id): index for index, id in enumerate(wholes.samples["id"])}
    predictions = {alias: read_predictions(paths, run) for alias, run in shown.items()}
    sample_rows = []
    with whole_folder(folder) as partial:
        for id in picked:
            index = at[id]
            image, truth, *preds = shrink(
                *(wholes.image(index), wholes.mask(index)),
                *(predictions[row.alias][index] for row in rows),
            )
            cells = [
                _draw(partial, folder, f"{id}--image", outline(image), None),
                _draw(partial, folder, f"{id}--truth", outline(image, truth), None),
            ]
            for row, pred in zip(rows, preds, strict=True):
                score = float(scores[row.alias][id])
                drawn = outline(image, truth, pred)
                cells.append(_draw(partial, folder, f"{id}--{row.alias}", drawn, score))
            sample_rows.append(SampleRow(id, cells))
    return sample_rows


def _draw(partial: Path, folder: Path, name: str, drawn: Pixels, score: float | None) -> Cell:
    path = partial / f"{name}.jpg"
    Image.fromarray(drawn).save(path, quality=85)
    return Cell(folder / path.name, score)


def _scores_by_candidate(params: Params, runs: list[Scored]) -> dict[str, np.ndarray]:
    metric = params.comparison.metric
    return {
        alias: pd.DataFrame(image_scores(runs, alias, "test", metric)[0]).mean().to_numpy()
        for alias in params.comparison.candidates
    }


def _is_leaky(params: Params, paths: Paths) -> bool:
    """Does anything straddle the split in any fold of the comparison?"""
    scores = json.loads(paths.split.read_text())
    return any(any(scores[f"fold{fold}"]["leaks"].values()) for fold in params.comparison.folds)


def _facts(params: Params, header: Header, runs: list[Scored], paths: Paths) -> dict[str, str]:
    """What the reader must know of the data behind the numbers."""
    folds = f"{params.split.num_folds} folds" if params.split.num_folds > 1 else "one fold"
    how = f"by {params.split.by}, seed {params.split.seed}, {folds}"
    patches = params.augment.patches
    leak = "leaks, see audit.html" if _is_leaky(params, paths) else "no leak found (audit.html)"
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
        part="compare",
        experiment=header.dataset.name,
        name=params.comparison.name,
        started_ms=now_ms(),
        params=flatten(chosen),
        tags={**provenance.tags(), "dataset_digest": header.digest},
        children=[json.loads((paths.runs / f"{name}.json").read_text())["run"] for name in names],
    )
