"""Champions of comparisons in MLflow's registry.

A version is a model, however many comparisons found it best. The alias `champion` goes to it where
nothing speaks against that; who had it keeps `previous`.
"""

import sys
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segbench.tracking.comparisons import find_run
from segbench.tracking.models import KEY_TAG, WEIGHTS_TAG, find_model
from segbench.tracking.processes import RUN_TAG
from segbench.tracking.records import CARD_TAG, REPORT, Champion, Run

CHAMPION, PREVIOUS = "champion", "previous"
"""Aliases."""
VERSION_TAG = "segbench.version"
"""Of a comparison's run: which version its champion is."""
REFUSED_TAG, FORCED_TAG = "champion.refused", "champion.forced"
"""Of a version: why it did not get the alias, and why it would not have without force."""
SCORE_TAG, METRIC_TAG, DATA_TAG, ENDED_TAG = "score", "metric", "data", "segbench.ended_ms"
RECORD_TAG = "segbench.record"
"""Of a version: the id of its run's record, by which comparisons name it."""


def register(
    client: MlflowClient,
    experiment: str,
    run: Run,
    run_id: str,
    ended_ms: int,
    force: bool = False,
) -> None:
    """Register the champion of a comparison, and give it the alias if it should have it.

    Args:
        client: of the tracking server.
        experiment: MLflow's id.
        run: the comparison.
        run_id: MLflow's id of it.
        ended_ms: when its record ended, UNIX time in milliseconds.
        force: the alias goes to it, whatever speaks against that.
    """
    champion = run.champion
    assert champion is not None
    own = find_run(client, experiment, champion.run)
    model = find_model(client, experiment, own.info.run_id) if own else None
    if model is None:
        return  # whoever has the record of its evaluation brings it, and comes here again
    versions = client.search_model_versions(f"name = '{champion.model}'")
    version = next(
        (one for one in versions if one.tags.get(KEY_TAG) == model.tags.get(KEY_TAG)), None
    )
    tags = {
        **champion.tags,
        SCORE_TAG: repr(champion.score),
        METRIC_TAG: champion.metric,
        DATA_TAG: champion.data,
        ENDED_TAG: str(ended_ms),
        RUN_TAG: own.info.run_name,
        RECORD_TAG: champion.run,
        KEY_TAG: model.tags[KEY_TAG],
        WEIGHTS_TAG: own.data.tags.get(WEIGHTS_TAG, ""),
        "report": f"runs:/{run_id}/{REPORT}",
        **_card_of(own),
    }
    if version is None:
        _make_name(client, run)
        version = client.create_model_version(
            champion.model,
            f"models:/{model.model_id}",
            own.info.run_id,
            tags=tags,
            description=champion.tags.get("verdict"),
            model_id=model.model_id,
        )
    elif int(version.tags.get(ENDED_TAG, 0)) <= ended_ms:
        for key, value in tags.items():
            if version.tags.get(key) != value:
                client.set_model_version_tag(champion.model, version.version, key, value)
    client.set_tag(run_id, VERSION_TAG, f"{champion.model}/{version.version}")
    _give_alias(client, champion, version.version, ended_ms, force)


def link_card(client: MlflowClient, run_id: str) -> None:
    """Tell the versions of a run's models where its model card is."""
    found = _card_of(client.get_run(run_id))
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        for key, value in found.items():
            client.set_model_version_tag(version.name, version.version, key, value)


def _card_of(run: Any) -> dict[str, str]:
    place = run.data.tags.get(CARD_TAG)
    return {CARD_TAG: f"runs:/{run.info.run_id}/{place}"} if place else {}


def _make_name(client: MlflowClient, run: Run) -> None:
    assert run.champion is not None
    said = (
        f"What comparisons of the name `{run.comparison}` found best on {run.experiment}. The "
        "alias `champion` is the one to use, `previous` the one before it."
    )
    try:
        client.create_registered_model(run.champion.model, description=said)
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _give_alias(
    client: MlflowClient, champion: Champion, version: str, ended_ms: int, force: bool
) -> None:
    name = champion.model
    held = _holder(client, name)
    if held is not None and held.version == version:
        return
    if held is not None and int(held.tags.get(ENDED_TAG, 0)) > ended_ms and not force:
        return  # a later comparison gave it
    reason = why_not(champion, held)
    if reason and not force:
        client.set_model_version_tag(name, version, REFUSED_TAG, reason)
        stays = f"the alias {CHAMPION} stays at version {held.version}" if held else "no alias"
        print(
            f"MLflow: {name} version {version} ({champion.tags.get('candidate')}) is registered, "
            f"{stays}: {reason}; 'segbench sync --force-champion' gives it the alias all the same",
            file=sys.stderr,
        )
        return
    client.set_registered_model_alias(name, CHAMPION, version)
    if held is not None:
        client.set_registered_model_alias(name, PREVIOUS, held.version)
    found = client.get_model_version(name, version)
    if reason:
        client.set_model_version_tag(name, version, FORCED_TAG, reason)
    elif REFUSED_TAG in found.tags:
        client.delete_model_version_tag(name, version, REFUSED_TAG)


def why_not(champion: Champion, held: Any) -> str:
    """Why a champion should not take the alias; empty if nothing speaks against it.

    Args:
        champion: of a comparison.
        held: the version (MLflow's entity) that has the alias; None: none has.
    """
    if champion.doubts:
        return " and ".join(champion.doubts)
    if held is None:
        return ""
    who = f"version {held.version} ({held.tags.get('candidate', 'unknown')})"
    relation = champion.relations.get(held.tags.get(RECORD_TAG, ""))
    if relation in ("worse", "champion"):
        return ""
    if relation:
        return f"the test set does not tell it from {who}, which has it"
    same = (held.tags.get(DATA_TAG), held.tags.get(METRIC_TAG)) == (champion.data, champion.metric)
    if same:
        former = float(held.tags[SCORE_TAG])
        gain = former - champion.score if champion.lower_is_better else champion.score - former
        if not gain >= 0:
            return (
                f"{champion.metric} on the same test images is {champion.score:.4f}, and "
                f"{former:.4f} of {who}, which has it"
            )
    return ""


def _holder(client: MlflowClient, name: str) -> Any:
    """The version that has the alias `champion`; None if none has."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as problem:
        if problem.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
