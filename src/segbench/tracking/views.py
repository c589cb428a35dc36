"""Views: what MLflow's pages show first of a comparison.

MLflow keeps a view (columns, groups, order, charts) as a tag of an experiment. A comparison's are
named by the comparison, so that a link to one holds on every machine.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from segbench.tracking.address import HOST, PORT

TAG = "mlflow.sharedViewState."
"""Before the key of a view, in the name of its tag."""
COMPARISON_TAG = "segbench.comparison."
"""Before the name of a comparison, in the name of the tag that its runs have: the id of its
record."""
KINDS = {"leaderboard": "TABLE", "curves": "CHART", "cost": "CHART", "pictures": "CHART"}
"""Kinds of views, and in which mode MLflow shows each."""
PACKED = "deflate;"
LEFT = {"attributes.`Run Name`": 250, "runDateAndNestInfo": 90}
"""Columns that always come first, and their widths in pixels."""
MOST_SHOWN = 20
"""Of how many candidates or runs charts show lines and points at first."""


class View(NamedTuple):
    """A view that a tracking server holds."""

    experiment: str
    experiment_id: str
    key: str
    name: str
    made_ms: int


class Pictures(NamedTuple):
    """Pictures to look at side by side: of one fold and seed, by their names in each run."""

    fold: int
    seed: int
    names: Sequence[str]


def describe_views(
    name: str,
    record: str,
    candidates: Sequence[str],
    scores: Sequence[str],
    costs: Sequence[str],
    made_ms: int,
    pictures: Pictures,
    lower_is_better: bool = False,
) -> dict[str, str]:
    """The views of a comparison, as MLflow keeps them, by their keys.

    Args:
        name: of the comparison.
        record: its id.
        candidates: aliases, best first.
        scores: names of the metrics to show: the score on test, that on validation, by which
            candidates are ordered, others.
        costs: names of metrics, the comparison's own cost first.
        made_ms: UNIX time in milliseconds.
        pictures: which are shown.
        lower_is_better: of the scores by which candidates are ordered.
    """
    rank = rank_metric(name)
    # Only candidates have a rank, and not the points of learning curves.
    own = f"tags.`{COMPARISON_TAG}{name}` = '{record}' AND metrics.`{rank}` >= 1"
    grouped = {
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "param", "groupByData": "candidate.alias"}],
        },
        "groupsExpanded": {f"param.candidate.alias.{alias}": False for alias in candidates},
    }
    columns = [rank, *scores, *costs]
    first_columns = [rank, *scores[:2], *costs, *scores[2:]]
    states: dict[str, dict[str, Any]] = {
        "leaderboard": {
            **grouped,
            **_charts(columns, {"Scores": [_bar(one) for one in columns]}),
            "columnOrder": [*LEFT, *(f"metrics.`{one}`" for one in first_columns), "duration"],
            "columnWidths": {
                **LEFT,
                **{f"metrics.`{one}`": max(110, 7 * len(one) + 24) for one in columns},
            },
        },
        "curves": {
            **grouped,
            **_charts(
                columns,
                {
                    "By epoch, with range": [
                        _line("epoch/val_dice_per_image"),
                        _line("epoch/val_loss"),
                        _line("epoch/train_loss"),
                        _line("epoch/learning_rate"),
                    ]
                },
            ),
        },
        "cost": {
            **grouped,
            **_charts(
                columns,
                {f"{scores[0]} against cost": [_scatter(cost, scores[0]) for cost in costs]},
            ),
        },
        "pictures": {
            "searchFilter": f"{own} AND params.fold = '{pictures.fold}' "
            f"AND params.seed = '{pictures.seed}'",
            "orderByAsc": True,  # MLflow shows runs from the last to the first
            **_charts(columns, {"Predictions on validation": [_images(pictures.names)]}, wide=True),
        },
    }
    shown = "SHOW_ALL" if len(candidates) <= MOST_SHOWN else "FIRST_20_RUNS"
    return {
        f"{name}-{kind}": json.dumps(
            {
                "name": f"{name}: {kind}",
                "createdAt": made_ms - at,  # the menu lists the latest first
                "updatedAt": made_ms - at,
                "state": _packed(
                    {
                        "searchFilter": own,
                        "orderByKey": f"metrics.`{scores[1]}`",
                        "orderByAsc": lower_is_better,
                        "runsHiddenMode": shown,
                        "selectedColumns": [f"metrics.`{metric}`" for metric in columns],
                        **states[kind],
                    }
                ),
            }
        )
        for at, kind in enumerate(KINDS)
    }


def rank_metric(comparison: str) -> str:
    """The metric that holds a candidate's rank in a comparison, in each of its runs."""
    return f"{comparison}/rank"


def address_of(experiment_id: str, key: str) -> str:
    """Where a server shows a view, from its root."""
    mode = KINDS[key.rpartition("-")[2]]
    return (
        f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
        f"&compareRunsMode={mode}&viewStateShareKey={quote(key)}"
    )


def lasting_address(experiment: str, key: str) -> str:
    """Where `segbench ui` shows a view at its usual port, the same on every machine."""
    return f"http://{HOST}:{PORT}{lasting_path(experiment, key)}"


def lasting_path(experiment: str, key: str) -> str:
    """The same from the root."""
    return f"/views/{quote(experiment, safe='')}/{quote(key)}"


def keys_of(comparison: str) -> dict[str, str]:
    """The keys of a comparison's views, by kind."""
    return {kind: f"{comparison}-{kind}" for kind in KINDS}


def made_ms(value: str) -> int:
    """When a view was made, UNIX time in milliseconds; 0 if the tag's value does not say so."""
    try:
        return int(json.loads(value)["createdAt"])
    except (ValueError, TypeError, KeyError):
        return 0


def list_views(experiments: Sequence[Any]) -> list[View]:
    """The views of comparisons in experiments (MLflow's entities), the latest first."""
    found = []
    for experiment in experiments:
        for tag, value in experiment.tags.items():
            key = tag.removeprefix(TAG)
            if tag != key and key.rpartition("-")[2] in KINDS and (made := made_ms(value)):
                name = str(json.loads(value)["name"])
                found.append(View(experiment.name, experiment.experiment_id, key, name, made))
    return sorted(found, key=lambda view: -view.made_ms)


def _packed(state: Mapping[str, Any]) -> str:
    """As MLflow packs it: a tag of an older server holds 5,000 characters."""
    return PACKED + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()


def unpacked(value: str) -> dict[str, Any]:
    """The state of a view, from its tag's value."""
    state = json.loads(value)["state"].removeprefix(PACKED)
    return dict(json.loads(zlib.decompress(base64.b64decode(state))))


def _charts(
    metrics: Sequence[str], sections: Mapping[str, list[dict[str, Any]]], wide: bool = False
) -> dict[str, Any]:
    """Sections with their charts. MLflow adds a chart of every other metric, below and folded.

    Args:
        metrics: names of those that may have a section of their own.
        sections: charts by the name of their section, unfolded.
        wide: one chart takes the place of six.
    """
    others = dict.fromkeys(one.rpartition("/")[0] for one in metrics)
    folded = ["", *others, "val", "test", "epoch", "prediction"]
    names = [*sections, *(one for one in dict.fromkeys(folded) if one not in sections)]
    ids = {one: f"section-{at}" for at, one in enumerate(names)}
    return {
        "compareRunSections": [
            {
                "uuid": ids[one],
                "name": one,
                "display": one in sections,
                "isReordered": one in sections,
                "deleted": False,
                "isGenerated": one not in sections,
                **({"columns": 1, "cardHeight": 760} if wide and one in sections else {}),
            }
            for one in names
        ],
        "compareRunCharts": [
            {
                "uuid": f"{ids[one]}-chart-{at}",
                "metricSectionId": ids[one],
                "runsCountToCompare": MOST_SHOWN,
                "deleted": False,
                "isGenerated": False,
                **chart,
            }
            for one, charts in sections.items()
            for at, chart in enumerate(charts)
        ],
        "isAccordionReordered": True,
    }


def _bar(metric: str) -> dict[str, Any]:
    return {"type": "BAR", "metricKey": metric, "displayName": metric}


def _line(metric: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": metric,
        "xAxisKey": "step",
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "range": {},
    }


def _scatter(cost: str, score: str) -> dict[str, Any]:
    return {
        "type": "SCATTER",
        "xaxis": {"key": cost, "type": "METRIC"},
        "yaxis": {"key": score, "type": "METRIC"},
        "displayName": f"{score} against {cost}",
    }


def _images(names: Sequence[str]) -> dict[str, Any]:
    return {"type": "IMAGE", "imageKeys": list(names), "step": 0, "showRunParams": False}
