"""A cluster of worker processes, each with its own folder, on this machine."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import yaml


class Cluster:
    """A Dask scheduler and workers, in process groups of their own; ended with the block.

    Args:
        folder: for logs, and for a folder of each worker.
        workers: how many.
        options: of the scheduler and the workers, such as files for TLS.
        environment: more variables of the workers.
        protocol: tcp or tls.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        protocol: str = "tcp",
    ) -> None:
        self.folder = folder
        self._options, self._environment = options, dict(environment or {})
        self._protocol, self._count = protocol, workers
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard")
        log = self.folder / "scheduler.log"
        found = None
        for _ in range(300):
            if found := re.search(rf"{self._protocol}://127[\d.]+:\d+", log.read_text()):
                break
            time.sleep(0.1)
        assert found, log.read_text()
        self.address = found[0]
        for _ in range(self._count):
            self.add()
        return self

    def add(self, **variables: str) -> None:
        """One more worker."""
        number = len(self.workers)
        own = self.folder / f"worker-{number}"
        variables = {"WORKER_FOLDER": str(own), **variables}
        arguments = ("--nthreads", "1", "--no-nanny", "--name", f"w{number}", "--no-dashboard")
        place = ("--local-directory", str(own / "dask"))
        own.mkdir()
        self.workers.append(self._start("worker", self.address, *arguments, *place, **variables))

    def _start(self, kind: str, *arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
        number = f"-{len(self.workers)}" if kind == "worker" else ""
        command = [sys.executable, "-m", "dask", kind, "--host", "127.0.0.1", *arguments]
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment = {**inherited, **self._environment, **variables}  # the libraries alone
        with (self.folder / f"{kind}{number}.log").open("wb") as log:
            return subprocess.Popen(
                [*command, *self._options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.folder,
                process_group=0,
            )

    def send(self, worker: int, number: signal.Signals) -> None:
        """Send a signal to a worker's process group."""
        os.killpg(self.workers[worker].pid, number)

    def settings(self, path: Path, **more: object) -> Path:
        """Write a cluster.yaml that names it."""
        tree = {"scheduler": self.address, "folder": "$WORKER_FOLDER", **more}
        path.write_text(yaml.safe_dump(tree))
        return path

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers, self.scheduler]:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
