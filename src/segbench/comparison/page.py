"""The report: one Markdown page for a pull request, one HTML file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from ruamel.yaml import YAML

from segbench.arrays.store import Header
from segbench.comparison import plots
from segbench.comparison.cheapest import listed_cost
from segbench.comparison.class_scores import ClassScore, confusion_shares, table_of
from segbench.comparison.coverage import describe
from segbench.comparison.data_facts import data_facts
from segbench.comparison.examples import MOST_DRAWN, Example, Picture
from segbench.comparison.expenses import Expenses
from segbench.comparison.external import SHOWN, ExternalSet
from segbench.comparison.leaderboard import Leaderboard, LeaderboardRow
from segbench.comparison.learning_curve import DRAWN, LearningCurve
from segbench.comparison.planning import Plan
from segbench.comparison.published import PublishedRow, chance_text
from segbench.comparison.requirements import Requirement
from segbench.comparison.single_images import RULES, SingleImages, ranks
from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Design
from segbench.comparison.subgroups import Subgroup
from segbench.comparison.verdict import Verdict, p_text
from segbench.evaluation.results import RunResult, leaders, trial_table
from segbench.metrics.catalogue import DEFINITIONS, DISTANCES
from segbench.params import Params
from segbench.report.drawing import class_colours
from segbench.report.links import link_to, picture_mode, picture_size, picture_source
from segbench.report.render import write_page
from segbench.tracking.views import keys_of, lasting_address

MOST_FIRST = 15
"""Rows of the leaderboard that are not folded away."""
MOST_PLOTTED = 20
"""Candidates in plots that give each a row or a line, and in the matrix of pairs: the first of the
leaderboard. Tables list all."""

CLAIMS: dict[Design, str] = {
    "one training": "All this is said of these trained networks: a permutation test swaps two "
    "candidates in whole groups of test images.",
    "seeds": "It is said of networks that are trained anew on these training images: p is the "
    "larger of a permutation test over groups of test images and of a t test with the variance of "
    "groups and seeds.",
    "folds": "It is said of networks that are trained anew on other images: p is the larger of a "
    "permutation test over groups of test images and of a t test over folds.",
}
"""What p and intervals speak of, by what varies."""

VARIANT_WORDS = {
    "": "at evaluate.threshold, at the network's size",
    "_chosen": "by the rule chosen on validation, at the network's size",
    "_original": "at evaluate.threshold, at each image's own size",
    "_original_chosen": "by the rule chosen on validation, at each image's own size",
}


@dataclass(frozen=True)
class Content:
    """All that the report shows.

    Attributes:
        params: all of them.
        header: of the packed arrays.
        audit: what the split stage counted; see `splits.split.score`.
        runs: of all candidates.
        leaderboard: the candidates in order, without points of learning curves.
        verdict: in words, with its caveats.
        plan: what comparisons of other sizes would find; None where nothing is compared.
        requirements: of the comparison, evaluated.
        expenses: what the candidates take.
        external: what the candidates score on other test sets.
        learning_curves: over shares of the training groups, of candidates that have one.
        published: what others reached, beside the champion.
        class_scores: of each class and candidate.
        confusion: (K, K) test pixels of the champion by true and predicted class id.
        subgroups: of the test images.
        single_images: how scores spread over test images.
        gallery: test images with predictions, by what they show.
        preview: picture of the augmentation.
        trained: the folder in which each run's training has its own.
        provenance: of the code and libraries.
    """

    params: Params
    header: Header
    audit: dict[str, Any]
    runs: list[RunResult]
    leaderboard: Leaderboard
    verdict: Verdict
    plan: Plan | None
    requirements: list[Requirement]
    expenses: Expenses
    external: list[ExternalSet]
    learning_curves: list[LearningCurve]
    published: list[PublishedRow]
    class_scores: list[ClassScore]
    confusion: NDArray[np.int64]
    subgroups: list[Subgroup]
    single_images: SingleImages
    gallery: dict[str, list[Example]]
    preview: Path
    trained: Path
    provenance: dict[str, str]


def write_report(content: Content, folder: Path) -> None:
    """Write comparison.md and comparison.html; neither holds a date, so that they repeat."""
    params, dataset = content.params, content.header.dataset
    pictures = picture_mode(params.report.pictures, dataset.redistributable)
    rivals = [run for run in content.runs if run.alias in content.leaderboard.aliases]
    trials = trial_table((run.alias, run.trained) for run in rivals)
    animations = {
        run.name: content.trained / run.name / "record/artifacts/pictures/progress.gif"
        for run in content.runs
    }

    def source(picture: Picture) -> str:
        return picture_source(picture.path, pictures, folder)

    unit = "mm" if dataset.spacing else "pixels"
    columns = _columns(content.leaderboard.rows[0].scores, unit)
    values = {
        "content": content,
        "params": params,
        "metric": params.comparison.metric,
        "alpha": f"{1 - params.comparison.confidence:.2g}",
        "expense": listed_cost(params.comparison, content.leaderboard, content.expenses.predicting),
        "contents": _contents(content),
        "first_note": _first_note(content),
        "percent": f"{100 * params.comparison.confidence:g} %",
        "rows": content.leaderboard.rows,
        "claim": CLAIMS[content.leaderboard.design],
        "published_assumed": _published_assumed(params, content.leaderboard),
        "simulated": describe(board.simulated) if (board := content.leaderboard).simulated else "",
        "components": _components(content.leaderboard),
        "aliases": content.leaderboard.aliases,
        "definitions": {
            name: one
            for name, one in DEFINITIONS.items()
            if name in content.leaderboard.rows[0].scores
        },
        "columns": columns,
        "unit": unit,
        "undefined": _undefined(content.leaderboard.rows),
        "metric_ranks": _metric_ranks(content.leaderboard, columns),
        "own_ranks": ranks(np.array([row.test.mean for row in content.leaderboard.rows])),
        "cut": f" Of {len(board.rows)} candidates, the first {MOST_PLOTTED} are shown."
        if len(board.rows) > MOST_PLOTTED
        else "",
        "first_rows": MOST_FIRST,
        "plotted": content.leaderboard.aliases[:MOST_PLOTTED],
        "pairwise": [line[:MOST_PLOTTED] for line in board.pairwise[:MOST_PLOTTED]],
        "rules": RULES,
        "rule_ranks": {rule: ranks(means) for rule, means in content.single_images.by_rule.items()},
        "classes": table_of(content.class_scores),
        "has_classes": len(content.header.dataset.scheme.scored) > 1,
        "confused": confusion_shares(content.confusion),
        "class_names": dataset.classes,
        "legend": _legend(content.header),
        "drawn_of": content.leaderboard.aliases[:MOST_DRAWN],
        "variants": VARIANT_WORDS,
        "drawn": DRAWN[content.leaderboard.design],
        "external_means": [name for name in SHOWN if name != params.comparison.metric],
        "external_pooled": SHOWN,
        "origins": {run.alias: run.trained["origin"] for run in content.runs},
        "lr_trials": trials,
        "leaders": leaders(trials),
        "facts": data_facts(params, content.header, content.audit, content.runs),
        "suspicious": {
            name.removesuffix("_masks"): count
            for name, count in content.audit["data"].items()
            if name.endswith("_masks") and count
        },
        "pictures": pictures,
        "source": source,
        "size_of": lambda picture: picture_size(picture.path),
        "preview_path": link_to(content.preview, folder),
        "progress": {run: link_to(path, folder) for run, path in animations.items()},
        "params_yaml": _as_yaml(params.model_dump(mode="json", exclude={"report", "tracking"})),
        "version": version("segbench"),
        "views": {
            kind: Markup(lasting_address(dataset.name, key))
            for kind, key in keys_of(params.comparison.name).items()
        },
        **_draw_plots(content),
    }
    filters = FILTERS | {"place": _places(content.leaderboard)}
    for ending in ("md", "html"):
        template = f"comparison/page.{ending}.jinja"
        write_page(folder / f"comparison.{ending}", template, values, filters)


def _contents(content: Content) -> dict[str, str]:
    """The sections of the page by id, in the order in which a reviewer asks."""
    classes = len(content.header.dataset.scheme.scored)
    elsewhere = content.external or content.published or content.learning_curves
    return {
        "certainty": "How sure is that?",
        **({"classes": "How good is each class?"} if classes > 1 else {}),
        "cost": "What does each cost?",
        "failures": "Where do they fail?",
        **({"elsewhere": "Does it hold elsewhere?"} if elsewhere else {}),
        "scores": "All scores",
        "training": "How were they trained?",
        "data": "Which data?",
        "provenance": "Provenance",
    }


def _first_note(content: Content) -> str:
    """What the first screen needs to be read rightly."""
    chosen, board = content.params.comparison, content.leaderboard
    images = sum(content.audit[f"fold{fold}"]["test"]["images"] for fold in chosen.folds)
    order = (
        " Candidates are in the order of their validation scores; those that share a rank cannot "
        "be told apart."
        if len(board.rows) > 1
        else ""
    )
    return (
        f"Mean {chosen.metric} per image of {images} test images in {board.num_groups} "
        f"group{'s' if board.num_groups > 1 else ''}, {board.rows[0].num_runs} "
        f"training{'s' if board.rows[0].num_runs > 1 else ''} each, with "
        f"{100 * chosen.confidence:g} % intervals.{order}"
    )


def _places(board: Leaderboard) -> Callable[[float], str]:
    """Where a score lies between the lowest and the highest bound of all, in CSS."""
    bounds = np.array([[row.test.low, row.test.high] for row in board.rows])
    if np.isnan(bounds).all():
        return "{}".format
    low, high = np.nanmin(bounds), np.nanmax(bounds)
    wide = max(high - low, 1e-9)
    return lambda score: f"{100 * (score - low) / wide:.1f}%"


def _columns(scores: Mapping[str, float], unit: str) -> dict[str, str]:
    """Columns of the table of all scores, and what they are called there.

    What depends on the unit of length is measured at each image's own size.

    Args:
        scores: of a candidate.
        unit: of lengths.
    """
    columns = {}
    for name, one in DEFINITIONS.items():
        if name in scores:
            column = f"{name}_original" if name in DISTANCES else name
            columns[column] = name.replace("_", " ") + (f", {unit}" if one.is_distance else "")
    return columns


def _undefined(rows: list[LeaderboardRow]) -> list[str]:
    """Metrics that no test image defines for any candidate."""
    return [
        name
        for name in DEFINITIONS
        if name in rows[0].scores and all(np.isnan(row.scores[name]) for row in rows)
    ]


def _draw_plots(content: Content) -> dict[str, str]:
    """The report's plots, as SVG."""
    chosen, board = content.params.comparison, content.leaderboard
    scores = {row.alias: row.test for row in board.rows}
    first = board.aliases[:MOST_PLOTTED]
    plotted = [run for run in content.runs if run.alias in first]
    label = (
        f"test {chosen.metric} per image: mean (diamond), {100 * chosen.confidence:g} % interval, "
        "seeds (dots)"
    )
    of_images = dict(zip(first, content.single_images.scores, strict=False))
    return {
        "means": plots.means(
            {alias: scores[alias] for alias in first},
            [row.seeds for row in board.rows[:MOST_PLOTTED]],
            label,
        ),
        "pareto": plots.pareto(
            scores, content.expenses.by_kind(board.aliases), f"test {chosen.metric}"
        ),
        "curves": plots.curves(first, [(run.alias, run.history) for run in plotted]),
        "gains": plots.gains(
            board.aliases,
            {
                curve.points[-1].alias: [
                    (float(np.mean(one.groups)), one.test) for one in curve.points
                ]
                for curve in content.learning_curves
            },
            f"test {chosen.metric}",
        ),
        "spread": plots.spread(of_images),
        "profiles": plots.profiles(of_images, f"test {chosen.metric} of an image, mean over seeds"),
    }


def _metric_ranks(board: Leaderboard, columns: Mapping[str, str]) -> dict[str, list[int | None]]:
    """Of each column of scores, the rank of each candidate by its mean alone."""
    return {
        name: ranks(
            np.array([row.scores[name] for row in board.rows]),
            DEFINITIONS[name.removesuffix("_original")].lower_is_better,
        )
        for name in columns
    }


def _legend(header: Header) -> dict[str, str]:
    """Colours of the classes that pictures fill, by name."""
    names = header.dataset.classes
    colours = class_colours(header.dataset.colours, header.dataset.scheme)
    return {name: colours[at] for at, name in enumerate(names) if at != header.dataset.background}


def _bounds(value: Interval, form: str) -> str:
    return "-" if np.isnan(value.low) else f"{form.format(value.low)} to {form.format(value.high)}"


def _components(board: Leaderboard) -> list[str]:
    """What the differences to the champion vary with."""
    known = [row.difference_to_champion for row in board.rows if row.difference_to_champion]
    return list(known[0].components) if known else []


def _published_assumed(params: Params, board: Leaderboard) -> str:
    """What the probabilities of published scores take for given."""
    confidence = params.comparison.confidence
    if board.design == "folds" or (board.num_seeds > 1 and board.num_folds == 1):
        trainings = "A published training is taken to vary as each of ours does."
    else:
        trainings = (
            "How much trainings vary is not known here: all is said of networks as they were "
            "trained, here and there."
        )
    batch = params.evaluate.batch_size
    soft = any(row.averaging == "batch" for row in params.comparison.published)
    return (
        "P is the probability that our score is truly the higher one, with no preference "
        "beforehand (after Christodoulou et al. 2025, arXiv 2505.04720); a verdict needs "
        f"{100 * confidence:g} % on one side, which chance gives to {200 * (1 - confidence):.2g} "
        "of 100 rows without any true difference. Published images are taken to come in groups as "
        "ours do and, without an sd in the row, to vary as ours do; and to be other images: where "
        f"they are the same, P is nearer to 50 % than it need be. {trainings} Published scores are "
        "often the best of several on their test set, and so optimistic; ours is the champion's, "
        "chosen on validation, at the size the networks see, with masks at evaluate.threshold."
        + (f" Our soft scores are means over batches of {batch}." if soft else "")
    )


FILTERS: dict[str, Callable[..., str]] = {
    "bounds": partial(_bounds, form="{:.3f}"),
    "signed_bounds": partial(_bounds, form="{:+.3f}"),
    "heading": lambda metric: "IoU" if metric == "iou" else metric.replace("_", " "),
    "heading_micro": lambda metric: f"{'IoU' if metric == 'iou' else metric}, micro",
    "share": lambda value: "-" if np.isnan(value) else f"{100 * value:.0f} %",
    "share_bounds": lambda value: (
        "-" if np.isnan(value.low) else f"{100 * value.low:.0f} to {100 * value.high:.0f} %"
    ),
    "p": p_text,
    "rule_heading": lambda rule, metric: f"{metric}, {rule}",
    "chance": chance_text,
    "groups_of": "{} groups".format,
    "found": lambda value: f"{value:.3f}" if np.isfinite(value) else "none",
    "score4": "{:.4f}".format,
}


def _as_yaml(tree: object) -> str:
    stream = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(tree, stream)
    return stream.getvalue()
