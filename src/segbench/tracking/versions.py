"""Versions of models in MLflow's registry: found by their addresses, and fetched."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segbench.errors import InputError, without_secrets
from segbench.tracking.client import SQLITE, UNREACHABLE, connect, quiet

# isort: split
import mlflow

from segbench.tracking.database import is_database
from segbench.tracking.reasons import reason_of

SCHEME = "models:/"
ADDRESS = re.compile(rf"{SCHEME}(?P<model>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>\d+))")
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers for what it does not have, the latter where that is an alias."""
OTHER_SERVER = "set MLFLOW_TRACKING_URI to another"


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        model: its name.
        number: of the version.
        run: name of the run that made it; empty: not known.
        tags: of that run, and its own.
    """

    model: str
    number: str
    run: str
    tags: Mapping[str, str]


def find_version(address: str, uri: str) -> Version:
    """Ask MLflow for a version.

    Args:
        address: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        uri: of the tracking server.

    Raises:
        InputError: for an address of another form, a server that does not answer, and one that has
            no such version.
    """
    said = ADDRESS.fullmatch(address)
    if said is None:
        raise InputError(
            f"{address}: names no version of a model; write {SCHEME}NAME@ALIAS or "
            f"{SCHEME}NAME/VERSION, as in {SCHEME}polyps@champion or {SCHEME}polyps/3"
        )
    shown = without_secrets(uri)
    if uri.startswith(SQLITE) and not is_database(Path(uri.removeprefix(SQLITE))):
        raise InputError(
            f"{address}: there is no MLflow database {shown}; set MLFLOW_TRACKING_URI to the "
            "server that has the model, or run 'segbench sync' to fill one from records"
        )
    quiet()
    model, alias, number = said["model"], said["alias"], said["number"]
    try:
        client = connect(uri)
        found = (
            client.get_model_version_by_alias(model, alias)
            if alias
            else client.get_model_version(model, number)
        )
        run = client.get_run(found.run_id) if found.run_id else None
    except UNREACHABLE as problem:
        reason = reason_of(problem)
        if getattr(problem, "error_code", "") in MISSING:
            raise InputError(
                f"{address}: MLflow at {shown} has no such model ({reason}); name one that it "
                f"lists, or {OTHER_SERVER}"
            ) from None
        raise InputError(
            f"{address}: MLflow at {shown} does not answer ({reason}); start it, or {OTHER_SERVER}"
        ) from None
    tags = {**(run.data.tags if run else {}), **found.tags}
    return Version(model, str(found.version), run.info.run_name if run else "", tags)


def fetch_version(version: Version, uri: str, folder: Path) -> Path:
    """Download the files of a version.

    Args:
        version: of `find_version`.
        uri: of the tracking server.
        folder: gets them; is made if need be.

    Returns:
        The folder that holds them.

    Raises:
        InputError: if they do not come.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address = f"{SCHEME}{version.model}/{version.number}"
    try:
        connect(uri)
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))
    except UNREACHABLE as problem:
        raise InputError(
            f"{address}: MLflow at {without_secrets(uri)} does not give its files "
            f"({reason_of(problem)}); look at the server and where it keeps artifacts, or "
            f"{OTHER_SERVER}"
        ) from None
