"""`segbench sync`: replay records into MLflow."""

import sys
import tempfile
from pathlib import Path

import click

from segbench.errors import InputError, without_secrets
from segbench.workspace import enter_workspace


@click.command(
    epilog="""\b
Examples:
  segbench sync                  all runs in data/ and runs/*/data/
  segbench sync runs/best-cvc    those of one recipe
  segbench sync --rev v1.2       those of a tag, a commit or a DVC experiment
  segbench sync --force-champion data/compare     its champion gets the alias
  MLFLOW_TRACKING_URI=http://mlflow.lab:5000 segbench sync     to a server
"""
)
@click.argument(
    "folders",
    nargs=-1,
    metavar="[FOLDER]...",
    type=click.Path(resolve_path=True, path_type=Path),
)
@click.option(
    "--rev",
    metavar="REV",
    default="",
    help="Replay the records of a git revision, or of an experiment of DVC, instead.",
)
@click.option(
    "--force-champion",
    is_flag=True,
    help="Champions get their alias, whatever speaks against that.",
)
def sync(folders: tuple[Path, ...], rev: str, force_champion: bool) -> None:
    """Send MLflow the runs that it has missed.

    Every run has a record on disk, which DVC carries between clones. All records below each FOLDER
    are replayed; a second time adds nothing. A record that holds what segbench does not write is
    refused whole, in a line, and the others are sent (exit status 1).
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no folder; name one that holds records, or none for all")
    if rev and folders:
        raise click.UsageError("--rev stands for all records of a revision: name no folder beside")
    enter_workspace()
    if not rev:
        places = folders or (Path("data"), *sorted(Path("runs").glob("*/data")))
        _replay(_records(places), [], force_champion)
        return
    from segbench.tracking.revisions import fetch_records

    with tempfile.TemporaryDirectory() as name:
        copies = Path(name)
        missing = fetch_records(Path.cwd(), rev, copies)
        _replay(_records((copies,)), missing, force_champion)


def _replay(records: list[Path], missing: list[str], force: bool) -> None:
    """Send records; what is missing or refused is told, and makes the exit status 1."""
    from segbench.tracking.address import tracking_uri

    uri = tracking_uri(Path.cwd())
    if not records and not missing:
        click.echo("no records found; 'segbench repro' writes them, 'dvc pull' brings them")
        return
    from segbench.tracking.client import UNREACHABLE, quiet
    from segbench.tracking.inspection import sound_records
    from segbench.tracking.reasons import reason_of
    from segbench.tracking.replay import replay

    quiet()
    sound, refused = sound_records(records)
    for line in (refused := [*missing, *refused]):
        print(f"error: {line}", file=sys.stderr)
    try:
        unfinished = replay(sound, uri, force)
    except UNREACHABLE as problem:
        raise InputError(
            f"MLflow at {uri} does not take the records: {reason_of(problem)}; start it, or set "
            "MLFLOW_TRACKING_URI to another"
        ) from None
    click.echo(f"{len(sound) - len(unfinished)} records are in {without_secrets(uri)}")
    for folder in unfinished:
        print(f"warning: {folder} has not ended; its run stays open", file=sys.stderr)
    if refused:
        sys.exit(1)


def _records(folders: tuple[Path, ...]) -> list[Path]:
    """Records at or below folders."""
    found = [path.parent for folder in folders for path in sorted(folder.rglob("run.json"))]
    whole = [folder for folder in found if not folder.name.startswith(".partial-")]
    return [folder for folder in whole if (folder / "metrics.jsonl").is_file()]
