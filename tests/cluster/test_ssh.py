"""A cluster that Dask starts by ssh, through a real sshd on this machine."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import yaml

from cluster.test_cluster import certificates, ran, toy
from support.params import ROOT

__all__ = ["toy"]
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="needs sshd"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where an sshd listens that lets in who has the key `tmp_path/id`."""
    for name in ("host", "id"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    settings = {
        "Port": number,
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "id.pub",
        "StrictModes": "no",
        "PermitRootLogin": "yes",
        "UsePAM": "no",
        "PidFile": "none",
    }
    (tmp_path / "conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    with suppress(PermissionError):
        Path("/run/sshd").mkdir(exist_ok=True)  # which sshd wants, if it runs as root
    assert SSHD
    server = subprocess.Popen([SSHD, "-D", "-f", str(tmp_path / "conf")])
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", number), 1):
                break
            time.sleep(0.1)
        yield number
    finally:
        server.terminate()
        server.wait()


def test_workers_started_by_ssh_run_stages_encrypted(
    toy: Path,
    tmp_path: Path,
    port: int,
) -> None:
    (toy / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    login = {"port": port, "client_keys": [str(tmp_path / "id")], "known_hosts": None}
    tree = {
        "start": "distributed.SSHCluster",
        "options": {
            "hosts": ["127.0.0.1"] * 3,
            "connect_options": login,
            "worker_options": {"nthreads": 1},
            "scheduler_options": {"dashboard": False},
            "remote_python": sys.executable,
        },
        "tls": certificates(tmp_path / "keys"),
        "folder": str(tmp_path / "workers"),
    }
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "segbench.jobs", "--cluster", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [item for item, _ in ran(toy)] == ["a", "b", "c"]
    assert "tls://" in done.stderr
