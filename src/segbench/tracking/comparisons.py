"""The runs of comparisons in MLflow: one for each that says something else.

Of those of one name the last supersedes the one before. Which that is follows from when their
records ended, so that MLflow comes to the same whatever the order in which these are replayed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segbench.tracking.processes import RUN_TAG
from segbench.tracking.records import Run
from segbench.tracking.views import COMPARISON_TAG, TAG, made_ms

NAME_TAG = "segbench.compares"
"""Of a comparison's own run: its name."""
ENDED_TAG, OLD_ENDED_TAG = "segbench.ended_ms", "segbench.replayed.compare"
"""Of the same: when its record ended, UNIX time in milliseconds; and what earlier versions have."""
SUPERSEDED_TAG, SUPERSEDES_TAG = "segbench.superseded_by", "segbench.supersedes"
"""Ids of records."""
PARENT_TAG, NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
SUPERSEDED = "**Superseded** by "
MOST = 1000


def comparisons_of(client: MlflowClient, experiment: str, name: str) -> list[Any]:
    """The comparisons of a name (MLflow's entities) whose records have ended, in that order."""
    told = client.search_runs([experiment], f"tags.`{NAME_TAG}` = '{name}'", max_results=MOST)
    # Those of earlier versions do not tell their name.
    older = client.search_runs(
        [experiment], f"attributes.run_name LIKE '{name}: %'", max_results=MOST
    )
    found = {
        run.info.run_id: run
        for run in [*told, *older]
        if _ended_ms(run) and run.data.tags.get(NAME_TAG, name) == name
        if NAME_TAG in run.data.tags or run.info.run_name.startswith(f"{name}: ")
    }
    return sorted(found.values(), key=_ended_ms)


def _ended_ms(run: Any) -> int:
    tags = run.data.tags
    return int(tags.get(ENDED_TAG) or tags.get(OLD_ENDED_TAG) or 0)


def supersede(client: MlflowClient, experiment: str, name: str) -> None:
    """Say of each comparison of a name which one superseded it."""
    runs = comparisons_of(client, experiment, name)
    for at, run in enumerate(runs):
        later = runs[at + 1] if at + 1 < len(runs) else None
        earlier = runs[at - 1] if at else None
        note = run.data.tags.get(NOTE_TAG, "")
        if note.startswith(SUPERSEDED):
            note = note.partition("\n\n")[2]
        if later:
            place = f"#/experiments/{experiment}/runs/{later.info.run_id}"
            note = f"{SUPERSEDED}[{later.info.run_name}]({place}).\n\n{note}"
        wanted = {
            SUPERSEDED_TAG: later.data.tags[RUN_TAG] if later else "",
            SUPERSEDES_TAG: earlier.data.tags[RUN_TAG] if earlier else "",
            NOTE_TAG: note,
        }
        for key, value in wanted.items():
            if value and run.data.tags.get(key) != value:
                client.set_tag(run.info.run_id, key, value)
            elif not value and key in run.data.tags:
                client.delete_tag(run.info.run_id, key)


def link_children(
    client: MlflowClient,
    experiment: str,
    run: Run,
    run_id: str,
    ended_ms: int,
    children: Mapping[str, Any],
) -> None:
    """Make a comparison the parent of the runs it compares, unless a later one is, and say of each
    what it says.

    Args:
        client: of the tracking server.
        experiment: its id.
        run: the comparison.
        run_id: MLflow's id of it.
        ended_ms: when its record ended, UNIX time in milliseconds.
        children: MLflow's entities by the ids of their records, those that MLflow has.
    """
    ended = {
        one.data.tags[RUN_TAG]: _ended_ms(one)
        for one in (comparisons_of(client, experiment, run.comparison) if run.comparison else ())
    }
    parents: dict[str, int] = {run_id: 0}
    for id, found in children.items():
        tags = {}
        parent = found.data.tags.get(PARENT_TAG, run_id)
        if parent not in parents:
            parents[parent] = _ended_of(client, parent)
        if parents[parent] <= ended_ms:
            tags[PARENT_TAG] = run_id
        key = f"{COMPARISON_TAG}{run.comparison}"
        if run.comparison and ended.get(found.data.tags.get(key, ""), 0) <= ended_ms:
            tags[key] = run.id
        metrics = [
            Metric(name, value, ended_ms, 0)
            for name, value in run.child_metrics.get(id, {}).items()
            if found.data.metrics.get(name) != value
        ]
        client.log_batch(
            found.info.run_id,
            metrics=metrics,
            tags=[RunTag(*tag) for tag in tags.items() if found.data.tags.get(tag[0]) != tag[1]],
        )


def _ended_of(client: MlflowClient, run_id: str) -> int:
    """When the record of a comparison ended; 0 if MLflow has no such run any more."""
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return 0
    return _ended_ms(run) if run.info.lifecycle_stage == "active" else 0


def find_runs(client: MlflowClient, experiment: str, ids: Sequence[str]) -> dict[str, Any]:
    """Runs (MLflow's entities) by the ids of their records, those that MLflow has."""
    return {id: found for id in ids if (found := find_run(client, experiment, id))}


def find_run(client: MlflowClient, experiment: str, id: str) -> Any:
    """The run of a record; None if MLflow does not have it."""
    found = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{id}'", max_results=1)
    return found[0] if found else None


def send_views(client: MlflowClient, experiment: str, views: Mapping[str, str]) -> None:
    """Write a comparison's views, unless there are those of a later one of its name."""
    tags = client.get_experiment(experiment).tags
    for key, value in views.items():
        if made_ms(tags.get(f"{TAG}{key}", "")) <= made_ms(value):
            client.set_experiment_tag(experiment, f"{TAG}{key}", value)
