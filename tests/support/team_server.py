"""The team's server of docs/team.md, of real parts: PostgreSQL, an S3 store, MLflow with users."""

import logging
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from support.params import ROOT

SECRET = "s3cr3t"
"""Is in every password here."""
MANUAL = ROOT / "docs/team.md"


def block_of(language: str, begin: str) -> str:
    """The block of docs/team.md in a language that begins so."""
    blocks = re.findall(rf"```{language}\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    (found,) = [one for one in blocks if one.startswith(begin)]
    return str(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_user(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return [*(("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()), *command]


@contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """A PostgreSQL of its own on a socket; yields libpq's variables. Skips where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql")
    place = programs[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
    (folder / "password").write_text(f"database-{SECRET}")
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("no user postgres, and PostgreSQL does not run as root")
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    data = str(folder / "data")
    control = [f"{place}/pg_ctl", "-D", data, "-w", "-l", f"{folder}/log"]

    def call(*command: str) -> None:
        subprocess.run(_as_user(*command), cwd=folder, stdout=subprocess.DEVNULL, check=True)

    try:
        asked = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--username=mlflow"]
        call(f"{place}/initdb", "-D", data, "-N", *asked)
        call(*control, "-o", f"-k {folder} -c listen_addresses= -c fsync=off", "start")
        try:
            yield {
                "PGHOST": str(folder),
                "PGUSER": "mlflow",
                "PGPASSWORD": f"database-{SECRET}",
                "PATH": f"{place}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            }
        finally:
            call(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@contextmanager
def s3_store() -> Iterator[dict[str, str]]:
    """An S3 server with the bucket `mlflow`; yields the variables of a client."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    there = ThreadedMotoServer("127.0.0.1", port=free_port(), verbose=False)
    there.start()
    try:
        host, port = there.get_host_and_port()
        given = {
            "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "mlflow",
            "AWS_SECRET_ACCESS_KEY": f"store-{SECRET}",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        client_of(given, boto3).create_bucket(Bucket="mlflow")
        yield given
    finally:
        there.stop()


def client_of(given: Mapping[str, str], boto3: object) -> object:
    """A client of the store."""
    return boto3.client(  # type: ignore[attr-defined]
        "s3",
        endpoint_url=given["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        region_name=given["AWS_DEFAULT_REGION"],
    )


@contextmanager
def team_server(log: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """MLflow's server as docs/team.md starts it; yields its address and its environment."""
    port = free_port()
    commands = block_of("sh", "createdb").replace("mlflow.lab", "127.0.0.1")
    commands = commands.replace("0.0.0.0", "127.0.0.1").replace("5000", str(port))
    commands = commands.replace("mlflow server", "exec mlflow server --workers 2")  # start sooner
    with ExitStack() as stack:
        given = {**stack.enter_context(postgresql()), **stack.enter_context(s3_store())}
        environment = {
            **{name: value for name, value in os.environ.items() if "MLFLOW" not in name},
            **given,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": f"forms-{SECRET}",
            "MLFLOW_AUTH_ADMIN_PASSWORD": f"admin-{SECRET}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        with log.open("w") as said:
            process = subprocess.Popen(
                ["bash", "-euc", commands],
                cwd=ROOT,
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}", environment
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(900):
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except urllib.error.HTTPError as answer:
            raise AssertionError(f"{answer}: {log.read_text()[-2000:]}") from None
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
            time.sleep(0.2)
    raise AssertionError("the server does not answer")
