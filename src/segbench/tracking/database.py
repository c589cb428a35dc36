"""MLflow's SQLite file: made whole or not at all, and one that was left half made is replaced."""

import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from filelock import FileLock
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from segbench.files import atomic_file
from segbench.tracking.address import ARTIFACTS
from segbench.tracking.moved import follow_move

MAGIC = b"SQLite format 3\0"
QUIET_S = 3.0
"""A file that was not written for so long is not being made by another process."""
BESIDE = ("", "-journal", "-wal", "-shm")
"""Endings of the files of one database."""
OF_RUNS = ("runs", "_alembic_tmp_runs")
"""Tables that hold runs, the second while one of an older MLflow is converted."""


def prepare_database(path: Path) -> None:
    """Make MLflow's database, or check that MLflow can open it.

    To make one takes MLflow a thousand statements. A kill or a full disk among them leaves a file
    that it never opens again; this one is moved aside if it holds no runs.

    Raises:
        MlflowException, SQLAlchemyError: if MLflow cannot open it, though it holds runs.
    """
    with FileLock(f"{path}.lock"):  # two processes that make one at once break it
        if path.exists() and path.stat().st_size:
            if _opens(path):
                follow_move(path)
                return
            _move_aside(path)
        with atomic_file(path) as partial:
            for left in _files_of(partial):  # by a kill
                left.unlink()
            _open(partial)


def is_database(path: Path) -> bool:
    """Whether a file is one of SQLite."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _opens(path: Path) -> bool:
    """Whether MLflow opens a database; not if it was left half made and holds no runs."""
    if not is_database(path):
        return False  # which MLflow would try for minutes
    try:
        _open(path)
    except (MlflowException, SQLAlchemyError):
        if _holds_runs(path):
            raise
        while time.time() - path.stat().st_mtime < QUIET_S:
            time.sleep(QUIET_S / 10)
        try:
            _open(path)
        except (MlflowException, SQLAlchemyError):
            return False
    return True


def _open(path: Path) -> None:
    # Here, since it takes a second that a server's clients need not spend.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{path}"
    try:
        SqlAlchemyStore(uri, (path.parent / ARTIFACTS).as_uri())
    finally:
        # Else a later connection would be to this file, whatever it is called by then.
        if engine := SqlAlchemyStore._engine_map.pop(uri, None):
            engine.dispose()


def _holds_runs(path: Path) -> bool:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        return any(
            database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
            for table in OF_RUNS
            if table in names
        )


def _files_of(path: Path) -> list[Path]:
    files = [path.with_name(f"{path.name}{ending}") for ending in BESIDE]
    return [file for file in files if file.exists()]


def _move_aside(path: Path) -> None:
    number = 1
    while (kept := path.with_name(f"{path.name}-broken-{number}")).exists():
        number += 1
    for file in _files_of(path):  # a journal of it would be taken for one of the new file
        os.replace(file, kept.with_name(file.name.replace(path.name, kept.name, 1)))
    print(
        f"mended: {path} was left half made by a kill or a full disk, and held no runs; it is kept "
        f"as {kept.name}, and a new one is made, to which 'segbench sync' adds what it missed",
        file=sys.stderr,
    )
