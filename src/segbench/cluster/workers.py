"""The workers of a cluster as a place for stages, by Dask.

Dask gives a stage to a worker that is free, and to another one if that is lost. A stage is a task
that needs a piece of the resource that `agent.Agent` grants a worker with the right libraries.
"""

import platform
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import cloudpickle
from distributed import Future, get_worker
from distributed.scheduler import KilledWorker

from segbench.cluster import agent
from segbench.cluster.agent import NAME, Agent
from segbench.cluster.connect import connect
from segbench.cluster.revision import pack_workspace
from segbench.cluster.settings import ClusterSettings
from segbench.files import sha256_of
from segbench.jobs.pipeline import Pipeline, Stage
from segbench.jobs.view import View
from segbench.params import Params
from segbench.tracking.address import tracking_uri
from segbench.tracking.follower import FOLLOW
from segbench.tracking.provenance import MADE, versions

LENT = ("datasets", "weights")
"""Folders of user files, which workers that share the disk see by links."""
REMIND_S = 20.0


class Remote:
    """A stage that runs on a worker, or waits for one; see `schedule.Job`."""

    where = "a worker, once one is free"

    def __init__(self, future: Future, retries: int, ended: Callable[[], None]) -> None:
        self._future, self._retries = future, retries
        future.add_done_callback(lambda _: ended())

    @property
    def status(self) -> int | None:
        """0: it ran; 1: it did not; None: it runs."""
        if not self._future.done():
            return None
        return int(self._future.status != "finished" or "entry" not in self._future.result())

    @property
    def why(self) -> str:
        """Why it failed."""
        if self._future.status == "finished":
            return str(self._future.result()["failed"])
        if self._future.status == "cancelled":
            return "taken back, or the scheduler is gone; the same command goes on from there"
        problem = self._future.exception()
        if isinstance(problem, KilledWorker):
            return f"{self._retries + 1} workers were lost that ran it; look at their logs"
        return f"could not be run: {problem}"

    @property
    def made(self) -> str | None:
        """Its entry in the run cache."""
        return str(self._future.result()["entry"])

    def send(self, number: signal.Signals) -> None:
        """Take it back if it is to end; its worker ends it. It does not pause."""
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self._future.cancel(force=True)


class Workers:
    """The workers of a cluster; see `schedule.Place`.

    Args:
        root: of the workspace.
        pipeline: its books, with an exchange.
        settings: of the cluster.
        params: of the workspace.
        view: is told of workers that come, go, or are refused.

    Raises:
        InputError: if there is no such cluster, or the workspace cannot be packed.
    """

    def __init__(
        self,
        root: Path,
        pipeline: Pipeline,
        settings: ClusterSettings,
        params: Params,
        view: View,
    ) -> None:
        self._root, self._pipeline, self._settings = root, pipeline, settings
        self._params, self._view = params, view
        self._session = uuid.uuid4().hex[:8]
        self._hearers: dict[str, tuple[str, Callable[[str], None]]] = {}
        self._known: dict[str, str] = {}
        self._slots, self._reminded = 0, time.monotonic()
        self._lock = threading.Lock()
        revision = pack_workspace(root)
        self._client = connect(settings)
        # By value: what the workers have installed may be another version of it, or none.
        cloudpickle.register_pickle_by_value(agent)
        silent_s = settings.lost_after_s / 2
        devices = 0 if params.hardware.device in ("cpu", "mps") else params.hardware.devices
        self._client.subscribe_topic(NAME, self._heard)
        self._client.run_on_scheduler(
            agent.be_patient, seconds=settings.lost_after_s, retries=settings.retries
        )
        here = {"python": platform.python_version(), "dvc": version("dvc"), **versions()}
        self._client.register_plugin(
            Agent(vars(revision), here, settings.folder, silent_s, devices)
        )
        self.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        cluster = self._client.cluster
        self._client.close()
        if cluster is not None:
            cluster.close()

    def accepts(self, stage: Stage) -> bool:
        """Whether a stage may be given to them: one more than they can run, so that none waits."""
        return stage.is_beside and 0 < self._slots >= len(self._hearers)

    def start(self, stage: Stage, hear: Callable[[str], None], ended: Callable[[], None]) -> Remote:
        """Give them a stage that has begun; see `schedule.Place`."""
        job = self._job(stage)
        key = f"{stage.name}-{self._session}"
        with self._lock:
            self._hearers[stage.name] = key, hear
        future = self._client.submit(
            lambda job: get_worker().plugins[NAME].run(job),  # a lambda travels by value
            job,
            key=key,
            resources={NAME: 1},
            retries=self._settings.retries,
            pure=False,
        )
        return Remote(future, self._settings.retries, ended)

    def _job(self, stage: Stage) -> Mapping[str, Any]:
        """What a worker is told: the stage, what it needs, and where that is to be had.

        Attributes:
            stage: its name.
            lock, files: see `exchange.Parcel`.
            lent: sha256 of files of the user, by path.
            links: where folders of the user's files are, if the disk is shared.
            remote: whether by a remote, else the cache is shared.
            cache: that cache, else empty.
            config: lines of DVC's configuration.
            environment: variables that hold where the worker has none of that name.
        """
        lent, root = self._lent(stage), self._root.resolve()
        parcel = self._pipeline.parcel(stage.name, lent)
        shared = self._settings.shared
        return {
            "stage": stage.name,
            "lock": parcel.lock,
            "files": dict(parcel.files),
            "lent": lent,
            "links": {
                **({name: str(root / name) for name in LENT} if shared else {}),
                **({"data/checkpoints": str(root / "data/checkpoints")} if shared else {}),
            },
            "remote": not shared,
            "cache": self._pipeline.cache if shared else "",
            "config": "" if shared else self._remote(),
            "environment": {
                **self._settings.environment,
                **_tracking(root),
                MADE: self._pipeline.made_for(stage.name),
                "DVC_NO_ANALYTICS": "1",
            },
        }

    def _remote(self) -> str:
        """Where the remote is, if that is a folder: git holds it relative to this workspace."""
        name, url = self._pipeline.remote
        if "://" in url and not url.startswith("file://"):
            return ""
        place = (self._root / url.removeprefix("file://")).resolve()
        return f"['remote \"{name}\"']\n    url = {place}\n"

    def _lent(self, stage: Stage) -> Mapping[str, str]:
        """Files that a stage reads and no stage makes: the weights of its candidate."""
        alias = stage.name.partition("@")[2].split("-")[0]
        candidate = self._params.candidates.get(alias)
        path = Path(candidate.weights) if candidate else Path()
        if candidate is None or path.is_absolute() or not (self._root / path).is_file():
            return {}
        return {str(path): candidate.weights_sha256 or sha256_of(self._root / path)}

    def look(self) -> None:
        """See who is there."""
        found = self._client.scheduler_info(n_workers=-1)["workers"]
        known = {
            address: str(worker["name"])
            for address, worker in found.items()
            if worker["resources"].get(NAME)
        }
        if new := known.keys() - self._known.keys():
            names = ", ".join(sorted(known[address] for address in new))
            self._view.note(f"joined: worker {names}")
            self._client.run_on_scheduler(agent.wake)
        for address in self._known.keys() - known.keys():
            lost = self._known[address]
            self._view.note(f"lost: worker {lost}; what it ran starts again elsewhere")
        self._known = known
        self._slots = int(sum(found[address]["resources"][NAME] for address in known))
        self._view.expect(max(1, self._slots))
        if self._slots == 0 and time.monotonic() - self._reminded > REMIND_S:
            self._reminded = time.monotonic()
            there = f"{len(found)} are there, and none fits" if found else "none is there yet"
            address = self._client.scheduler.address if self._client.scheduler else ""
            self._view.note(f"waiting for workers at {address}: {there}")

    def leave(self, stage: Stage) -> None:
        """A stage that ran there has ended."""
        with self._lock:
            del self._hearers[stage.name]

    def _heard(self, event: tuple[float, Mapping[str, str]]) -> None:
        """A message of a worker, in the client's thread."""
        message = event[1]
        if "refused" in message:
            self._view.note(f"refused: worker {message['refused']}")
            return
        with self._lock:
            key, hear = self._hearers.get(message["stage"], ("", None))
        if hear and key == message["key"]:
            hear(message["line"])


def _tracking(root: Path) -> Mapping[str, str]:
    """Workers write into a server that they can reach; else the driver replays their records."""
    uri = tracking_uri(root)
    if uri.startswith("http") and "@" not in uri:
        return {"MLFLOW_TRACKING_URI": uri}
    return {FOLLOW: "no"}
