"""The report: one Markdown page for a pull request, one HTML file."""

from collections.abc import Mapping
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import numpy as np
from markupsafe import Markup
from ruamel.yaml import YAML

from segbench.arrays.store import Header
from segbench.comparison import plots
from segbench.comparison.cheapest import listed_cost
from segbench.comparison.class_scores import confusion_shares, table_of
from segbench.comparison.content import Content
from segbench.comparison.coverage import describe
from segbench.comparison.data_facts import data_facts
from segbench.comparison.examples import MOST_DRAWN, Picture
from segbench.comparison.external import SHOWN
from segbench.comparison.filters import FILTERS, in_words, places
from segbench.comparison.leaderboard import Leaderboard
from segbench.comparison.learning_curve import DRAWN
from segbench.comparison.single_images import ranks, rules_of
from segbench.comparison.trials import leaders, trial_table
from segbench.comparison.words import (
    CLAIMS,
    VARIANT_WORDS,
    classes_said,
    confusions_said,
    contents,
    failures_said,
    first_note,
    other_firsts,
    published_assumed,
    undefined,
)
from segbench.files import atomic_file
from segbench.metrics.catalogue import DEFINITIONS, DISTANCES
from segbench.report.drawing import class_colours
from segbench.report.links import link_to, picture_mode, picture_size, picture_source
from segbench.report.render import write_page
from segbench.report.svg import as_file
from segbench.tracking.views import keys_of, lasting_address

PICTURE = "comparison.svg"
"""Of comparison.md: the means and intervals of its table."""
MOST_FIRST = 15
"""Rows of the leaderboard that are not folded away."""
MOST_PLOTTED = 20
"""Candidates in plots that give each a row or a line, and in the matrix of pairs: the first of the
leaderboard. Tables list all."""


def write_report(content: Content, folder: Path) -> None:
    """Write comparison.md with its picture comparison.svg, and comparison.html.

    None of them holds a date, so that they repeat.
    """
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

    board = content.leaderboard
    unit = dataset.unit
    columns = _columns(content.leaderboard.rows[0].scores, unit)
    values = {
        "content": content,
        "params": params,
        "metric": board.ranking.name,
        "ranking": board.ranking,
        "alpha": f"{1 - params.comparison.confidence:.2g}",
        "expense": listed_cost(params.comparison, content.leaderboard, content.expenses.predicting),
        "contents": contents(content),
        "first_note": first_note(content),
        "percent": f"{100 * params.comparison.confidence:g} %",
        "rows": content.leaderboard.rows,
        "claim": CLAIMS[content.leaderboard.design],
        "published_assumed": published_assumed(params, content.leaderboard),
        "simulated": describe(board.simulated) if board.simulated else "",
        "components": _components(content.leaderboard),
        "aliases": content.leaderboard.aliases,
        "definitions": {
            name: one
            for name, one in DEFINITIONS.items()
            if name in content.leaderboard.rows[0].scores
        },
        "columns": columns,
        "unit": unit,
        "undefined": undefined(content.leaderboard.rows),
        "metric_ranks": (ranked := _metric_ranks(content.leaderboard, columns)),
        "other_firsts": other_firsts(content.leaderboard.aliases, ranked, columns),
        "own_ranks": ranks(
            np.array([row.test.mean for row in board.rows]), board.ranking.lower_is_better
        ),
        "cut": f" Of {len(board.rows)} candidates, the first {MOST_PLOTTED} are shown."
        if len(board.rows) > MOST_PLOTTED
        else "",
        "first_rows": MOST_FIRST,
        "plotted": content.leaderboard.aliases[:MOST_PLOTTED],
        "pairwise": [line[:MOST_PLOTTED] for line in board.pairwise[:MOST_PLOTTED]],
        "rules": rules_of(board.ranking),
        "rule_ranks": {
            rule: ranks(means, board.ranking.lower_is_better)
            for rule, means in content.single_images.by_rule.items()
        },
        "classes": table_of(content.class_scores),
        "failures_said": failures_said(content),
        "classes_said": classes_said(board.aliases[0], content.class_scores),
        "confusions_said": confusions_said(confusion_shares(content.confusion), dataset.classes),
        "has_background": dataset.background is not None,
        "has_classes": len(content.header.dataset.scheme.scored) > 1,
        "confused": confusion_shares(content.confusion),
        "class_names": dataset.classes,
        "legend": _legend(content.header),
        "drawn_of": content.leaderboard.aliases[:MOST_DRAWN],
        "variants": VARIANT_WORDS,
        "drawn": DRAWN[content.leaderboard.design],
        "external_means": [name for name in SHOWN if name != board.ranking.name],
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
        **(drawn := _draw_plots(content)),
    }
    with atomic_file(folder / PICTURE) as partial:
        partial.write_text(as_file(drawn["means"]))
    filters = FILTERS | {"place": places(content.leaderboard)}
    for ending in ("md", "html"):
        template = f"comparison/page.{ending}.jinja"
        write_page(folder / f"comparison.{ending}", template, values, filters)


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
            columns[column] = in_words(name) + (f", {unit}" if one.is_distance else "")
    return columns


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


def _components(board: Leaderboard) -> list[str]:
    """What the differences to the champion vary with."""
    known = [row.difference_to_champion for row in board.rows if row.difference_to_champion]
    return list(known[0].components) if known else []


def _as_yaml(tree: object) -> str:
    stream = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(tree, stream)
    return stream.getvalue()


def _draw_plots(content: Content) -> dict[str, str]:
    """The report's plots, as SVG."""
    chosen, board = content.params.comparison, content.leaderboard
    scores = {row.alias: row.test for row in board.rows}
    first = board.aliases[:MOST_PLOTTED]
    plotted = [run for run in content.runs if run.alias in first]
    ranking, percent = board.ranking, f"{100 * chosen.confidence:g} %"
    metric, unit = ranking.name, f", {ranking.unit}" * bool(ranking.unit)
    of_what = " per image" * (not ranking.parts.is_pooled)
    label = f"test {metric}{of_what}{unit}: mean (diamond), {percent} interval, seeds (dots)"
    lower = ranking.lower_is_better
    of_images = dict(zip(first, content.single_images.scores, strict=False))
    return {
        "means": plots.means(
            {alias: scores[alias] for alias in first},
            [row.seeds for row in board.rows[:MOST_PLOTTED]],
            label,
        ),
        "pareto": plots.pareto(
            scores, content.expenses.by_kind(board.aliases), f"test {metric}{unit}", lower
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
            f"test {metric}{unit}",
        ),
        "spread": plots.spread(of_images),
        "profiles": plots.profiles(
            of_images, f"test {metric} of an image{unit}, mean over seeds", lower
        ),
    }
