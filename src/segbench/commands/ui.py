"""`segbench ui`: MLflow's pages."""

import os
import signal
import socket
import sys
from pathlib import Path

import click

from segbench.errors import InputError, without_secrets
from segbench.tracking.address import HOST, PORT, tracking_uri
from segbench.workspace import enter_workspace, run_in_group

SERVED = ("sqlite", "postgresql", "mysql", "mssql", "file")
"""Kinds of databases that MLflow's server reads."""


@click.command(
    epilog="""\b
Examples:
  segbench ui                http://127.0.0.1:5000, until Ctrl-C
  segbench ui --port 5001    where 5000 is taken
  segbench ui --no-browser   only prints the addresses
  ssh -L 5000:127.0.0.1:5000 MACHINE     from your desk, and then the same
"""
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=PORT,
    show_default=True,
    help="Port on this machine.",
)
@click.option(
    "--browser/--no-browser",
    default=None,
    help="Open the latest comparison in a browser.  [default: where a terminal and a desktop are]",
)
def ui(port: int, browser: bool | None) -> None:
    """Show the runs in MLflow, in a browser on this machine.

    Prints a link to each view of the latest comparisons: leaderboard, curves, cost, pictures.
    Runs go to mlflow.db at the repository's root, or to the server in MLFLOW_TRACKING_URI; of that
    one its address is printed.
    """
    enter_workspace()
    uri = tracking_uri(Path.cwd())
    if uri.startswith("http"):
        click.echo(f"runs are at {without_secrets(uri)}")
        return
    if not uri.startswith(SERVED):
        raise InputError(
            f"MLFLOW_TRACKING_URI: MLflow cannot show {uri}; set http://... or sqlite:///FILE, or "
            "unset it for mlflow.db here"
        )
    _check_free(port)
    click.echo("MLflow starts, in a few seconds", err=True)
    command = [sys.executable, "-m", "segbench.tracking.pages", str(port)]
    if _has_browser() if browser is None else browser:
        command.append("--open")
    # SIGTERM ends MLflow without a word, SIGINT with a traceback.
    status, stopped_by = run_in_group(command, Path(), os.environ, signal.SIGTERM)
    if stopped_by:
        sys.exit(128 + stopped_by)
    if status == 1:
        sys.exit(1)  # it has said why
    raise InputError(f"MLflow ended with status {status}, see above")


def _has_browser() -> bool:
    """Whether somebody sits at this machine who may see a browser."""
    desktop = sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return desktop and sys.stderr.isatty() and "SSH_CONNECTION" not in os.environ


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise InputError(f"port {port} is reserved; take one from 1024 up") from None
        except OSError:
            raise InputError(
                f"port {port} is taken; end what uses it, or take another: "
                f"segbench ui --port {port % 65535 + 1}"
            ) from None
