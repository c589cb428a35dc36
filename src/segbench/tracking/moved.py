"""A project that was moved or copied: MLflow's database names places, and those are absolute."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from segbench.tracking.address import ARTIFACTS

HELD = {"runs": ("run_uuid", "artifact_uri"), "logged_models": ("model_id", "artifact_location")}
"""Tables of what has artifacts: their columns of ids and places."""


def follow_move(path: Path) -> None:
    """Let MLflow look for artifacts beside its database, if that was moved or copied.

    Else a run would write them to where the project was: into a folder made anew, or into the
    project that this one was copied from. Experiments of other tools are left as they are, and so
    is what was not moved along.

    Args:
        path: of the SQLite file.
    """
    folder = path.resolve().parent
    here = (folder / ARTIFACTS).as_uri()
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as database:
        # Only segbench names the folder itself; MLflow appends the experiment's id.
        rows = database.execute("SELECT experiment_id, artifact_location FROM experiments")
        moved = {
            id: place
            for id, place in rows
            if place and place.endswith(f"/{ARTIFACTS}") and place.startswith("file:")
            if place != here
        }
        if not moved:
            return
        followed = 0
        database.execute("BEGIN IMMEDIATE")
        for experiment, there in moved.items():
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (here, experiment),
            )
            for table, (key, column) in HELD.items():
                held = database.execute(
                    f"SELECT {key}, {column} FROM {table} WHERE experiment_id = ?", (experiment,)
                ).fetchall()
                for id, place in held:
                    if not place.startswith(f"{there}/"):
                        continue
                    new = here + place.removeprefix(there)
                    if _path(place).exists() and not _path(new).exists():
                        continue  # it was not moved along
                    database.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (new, id))
                    followed += table == "runs"
        database.execute("COMMIT")
    former = ", ".join(sorted({str(_path(place).parent) for place in moved.values()}))
    print(
        f"mended: {path} came from {former}; artifacts of its {followed} runs are looked for in "
        f"{folder / ARTIFACTS}, and new ones go there",
        file=sys.stderr,
    )


def _path(place: str) -> Path:
    return Path(unquote(urlsplit(place).path))
