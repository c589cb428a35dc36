"""`segbench ui`: MLflow's pages."""

import os
import signal
import socket
import sys
from pathlib import Path

import click

from segbench.errors import InputError
from segbench.workspace import enter_workspace, run_in_group

HOST = "127.0.0.1"
SERVED = ("sqlite", "postgresql", "mysql", "mssql", "file")
"""Kinds of databases that MLflow's server reads."""


@click.command(
    epilog="""\b
Examples:
  segbench ui                http://127.0.0.1:5000, until Ctrl-C
  segbench ui --port 5001    where 5000 is taken
  ssh -L 5000:127.0.0.1:5000 MACHINE     from your desk, and then the same
"""
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="Port on this machine.",
)
def ui(port: int) -> None:
    """Show the runs in MLflow, in a browser on this machine.

    Runs go to mlflow.db at the repository's root, or to the server in MLFLOW_TRACKING_URI; of that
    one its address is printed.
    """
    enter_workspace()
    from segbench.tracking.address import ARTIFACTS, tracking_uri

    uri = tracking_uri(Path.cwd())
    if uri.startswith("http"):
        click.echo(f"runs are at {uri}")
        return
    if not uri.startswith(SERVED):
        raise InputError(
            f"MLFLOW_TRACKING_URI: MLflow cannot show {uri}; set http://... or sqlite:///FILE, or "
            "unset it for mlflow.db here"
        )
    _check_free(port)
    if uri.startswith("sqlite:///"):
        from segbench.tracking.replay import connect, quiet

        quiet()
        connect(uri)  # the server would break off half way if it is ended now
    click.echo(f"runs are at http://{HOST}:{port} in a moment; Ctrl-C ends it", err=True)
    # SIGTERM ends MLflow without a word, SIGINT with a traceback.
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", uri]
    command += ["--default-artifact-root", ARTIFACTS]
    status, stopped_by = run_in_group(command, Path(), os.environ, signal.SIGTERM)
    if stopped_by:
        sys.exit(128 + stopped_by)
    raise InputError(f"MLflow ended with status {status}, see above")


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
