"""What breaks first where 1,000 trainings run on 1 to 1,000 workers: a simulation, and its costs.

    python benchmarks/scale.py                     the table of docs/scale.md, from COSTS
    python benchmarks/scale.py measure WORKSPACE   measure the costs; WORKSPACE has finished runs

A training and its scoring are two stages on a worker, one after the other. What all workers share
serves one request at a time, in the order in which they come: the driver's process, the link of
the remote, MLflow. A stage ends once its results are back; MLflow it waits for a minute at most.
"""

import heapq
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
TRAININGS = 1000
WORKERS = (1, 10, 100, 1000)
NOTED = 40
"""Stages whose books are timed."""
LENGTHS = {"2 min": 120.0, "1 h": 3600.0}


@dataclass(frozen=True)
class Costs:
    """Seconds, and megabytes.

    Attributes:
        begin: of a stage, in the driver's process.
        restore: to take its results there, once they are pulled.
        open: the pipeline, in each process that runs a stage.
        start: of a stage's process, with its imports.
        mlflow: to take the records of a training and its scoring.
        data: what a worker pulls first, for training and scoring.
        weights, scores: what a training and its scoring push.
        results: share of these that the driver pulls.
        link: a second, of the remote and of the driver.
        scored: of scoring, besides.
        patience: for MLflow, after a stage is done.
    """

    begin: float
    restore: float
    open: float
    start: float
    mlflow: float
    data: float
    weights: float
    scores: float
    results: float = 1.0
    link: float = 125.0
    scored: float = 10.0
    patience: float = 60.0


# Measured as docs/scale.md says; 2,005 stages are 1,000 trainings.
COSTS = Costs(
    **{"begin": 0.32, "restore": 0.50, "open": 19.0, "start": 6.0, "mlflow": 1.2},
    **{"data": 32.0, "weights": 26.0, "scores": 29.0},
)
LARGER = replace(COSTS, data=430.0)
"""With the data of CVC-ClinicDB at 256x256."""
CHANGED = replace(LARGER, begin=0.17, restore=0.27, open=2.0, mlflow=0.3, results=0.1, link=1250.0)
"""With what docs/scale.md would change."""


@dataclass
class Station:
    """Serves one request at a time; how long it was busy, in seconds."""

    free_at: float = 0.0
    busy: float = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """When a request that comes now is done."""
        self.free_at = max(now, self.free_at) + seconds
        self.busy += seconds
        return self.free_at


@dataclass
class Shared:
    """What all workers share; and how many stages left their record for `segbench sync`."""

    unsent: int = 0

    driver: Station = field(default_factory=Station)
    remote: Station = field(default_factory=Station)
    mlflow: Station = field(default_factory=Station)


def training(costs: Costs, shared: Shared, seconds: float, is_first: bool) -> Iterator[float]:
    """A training and its scoring on one worker: yields until when each step lasts.

    It is sent the time at which it goes on.
    """
    now = yield 0.0
    for length, made in ((seconds, costs.weights), (costs.scored, costs.scores)):
        now = yield shared.driver.serve(now, costs.begin)
        now = yield now + costs.open
        if is_first:  # later ones find them on their worker
            now = yield shared.remote.serve(now, costs.data / costs.link)
            is_first = False
        now = yield now + costs.start + length
        if max(0.0, shared.mlflow.free_at - now) < costs.patience:
            now = yield shared.mlflow.serve(now, costs.mlflow / 2)
        else:
            shared.unsent += 1
            now = yield now + costs.patience
        now = yield shared.remote.serve(now, made / costs.link)
        # The driver pulls results one after another.
        pulled = costs.results * made / costs.link
        now = yield shared.driver.serve(now, costs.restore + pulled)


def simulate(workers: int, seconds: float, costs: Costs) -> tuple[float, Shared]:
    """Seconds until all trainings are done, and what was shared meanwhile."""
    shared, left, order = Shared(), iter(range(TRAININGS)), itertools.count()
    events: list[tuple[float, int, Iterator[float]]] = []

    def begin(now: float, is_first: bool) -> None:
        if next(left, None) is not None:
            one = training(costs, shared, seconds, is_first)
            next(one)
            heapq.heappush(events, (now, next(order), one))

    for _ in range(workers):
        begin(0.0, True)
    now = 0.0
    while events:
        now, _, one = heapq.heappop(events)
        try:
            heapq.heappush(events, (one.send(now), next(order), one))
        except StopIteration:
            begin(now, False)
    return now, shared


def table() -> None:
    """Print the table of docs/scale.md."""
    heads = ["workers", "all done in", "training", "driver", "remote", "MLflow", "CVC", "changed"]
    print("| a training |", " | ".join(heads), "|")
    print(f"|---|{'--:|' * len(heads)}")
    for name, seconds in LENGTHS.items():
        for workers in WORKERS:
            wall, shared = simulate(workers, seconds, COSTS)
            useful = TRAININGS * (seconds + COSTS.scored) / workers / wall
            loads = [one.busy / wall for one in (shared.driver, shared.remote, shared.mlflow)]
            cells = [
                name,
                f"{workers:,}",
                in_words(wall),
                *(f"{one:.0%}" for one in (useful, *loads)),
            ]
            if shared.unsent:
                cells[-1] += f" ({shared.unsent} of {2 * TRAININGS:,} records wait)"
            others = [in_words(simulate(workers, seconds, other)[0]) for other in (LARGER, CHANGED)]
            print("|", " | ".join([*cells, *others]), "|")


def in_words(seconds: float) -> str:
    """'35 min', '41 h'."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"


def measure(workspace: Path) -> None:
    """Measure what COSTS holds."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(json.dumps({"start": seconds_to_start()}), flush=True)
        for seeds in (100, 500):
            print(json.dumps(books(folder / f"books{seeds}", seeds)), flush=True)
        for server in (False, True):
            for writers in (1, 8):
                found = mlflow_speed(
                    workspace, folder / f"mlflow{server}{writers}", server, writers
                )
                print(json.dumps(found), flush=True)


def seconds_to_start() -> float:
    """Of a process that imports what a training needs."""
    command = [sys.executable, "-c", "import segbench.params, segbench.training.train"]
    return min(timed(lambda: subprocess.run(command, check=True)) for _ in range(5))


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spent(work: Callable[[Any], Any], argument: Any) -> float:
    """Seconds of a core."""
    started = time.process_time()
    work(argument)
    return time.process_time() - started


def books(folder: Path, seeds: int) -> dict[str, float]:
    """Seconds of a core for a stage in the driver's process; the pipeline has two candidates."""
    from segbench.jobs.pipeline import Pipeline

    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    yaml = YAML(typ="safe", pure=True)
    tree = yaml.load((folder / "params.yaml").read_text())
    tree["comparison"].update(candidates=["resnet18", "resnet10t"], seeds=list(range(seeds)))
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(tree, file)
    for name in ("header.json", "pipeline.yaml", "fold0/train/images.npy", "fold0/val/images.npy"):
        path = folder / "data/arrays" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(6_000_000 if "fold0" in name else 100))
    here = Path.cwd()
    os.chdir(folder)
    took: dict[str, list[float]] = {"begin": [], "end": [], "restore": []}
    opened = time.process_time()
    with Pipeline(Path()) as pipeline:
        opened = time.process_time() - opened
        names = [stage.name for stage in pipeline.stages if stage.kind == "train"][:NOTED]
        for name in names:
            took["begin"].append(spent(pipeline.begin, name))
            write_outputs(name)
            took["end"].append(spent(pipeline.end, {name: None}))
    Path("dvc.lock").unlink()
    shutil.rmtree("data/train")
    with Pipeline(Path()) as pipeline:
        took["restore"] = [spent(pipeline.begin, name) for name in names]
    os.chdir(here)
    found = {name: statistics.mean(each) for name, each in took.items()}
    return {"stages": 4 * seeds + 5, "open": opened, **found}


def write_outputs(stage: str) -> None:
    """What a training leaves, with 10 MB of weights."""
    run = "{}-fold{}-seed{}".format(*stage.partition("@")[2].split("-"))
    for name, size in (
        (f"data/train/{run}/weights.safetensors", 10_000_000),
        *((f"data/train/{run}/record/{name}", 5000) for name in ("run.json", "metrics.jsonl")),
        (f"reports/runs/{run}.json", 2000),
        (f"reports/history/{run}.csv", 2000),
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(os.urandom(size))


def mlflow_speed(workspace: Path, folder: Path, server: bool, writers: int) -> dict[str, Any]:
    """Seconds for the records of a training and its scoring, by so many processes at once."""
    from segbench.tracking.replay import connect

    rounds, runs = 4, sorted((workspace / "data/train").iterdir())
    database = f"sqlite:///{folder / 'mlflow.db'}"
    folder.mkdir()
    pairs = [
        copied(workspace, runs[at % len(runs)].name, folder, at)
        for at in range(1 + rounds * writers)
    ]
    connect(database)
    with served(database, folder) if server else unserved(database) as uri:
        replay_all([pairs.pop()], uri)  # makes the experiment
        shares = [pairs[at::writers] for at in range(writers)]
        with multiprocessing.get_context("spawn").Pool(writers) as pool:
            pool.starmap(replay_all, [([], uri)] * writers, chunksize=1)  # imports
            seconds = timed(lambda: pool.starmap(replay_all, [(share, uri) for share in shares], 1))
    return {"server": server, "writers": writers, "seconds": seconds / len(pairs)}


def copied(workspace: Path, run: str, folder: Path, number: int) -> list[Path]:
    """Records of a training and its scoring, as those of another run."""
    records, own = [], uuid.uuid4().hex
    for stage in ("train", "evaluate"):
        to = shutil.copytree(workspace / "data" / stage / run, folder / f"{number}{stage}")
        tree = json.loads((to / "record/run.json").read_text())
        (to / "record/run.json").write_text(json.dumps({**tree, "id": own}))
        records.append(to / "record")
    return records


def replay_all(pairs: list[list[Path]], uri: str) -> None:
    """Replay records into MLflow, as a stage's follower does."""
    from segbench.tracking.replay import quiet, replay

    quiet()
    for records in pairs:
        replay(records, uri)


@contextmanager
def unserved(database: str) -> Iterator[str]:
    yield database


@contextmanager
def served(database: str, folder: Path) -> Iterator[str]:
    """`mlflow server` over a database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        uri = f"http://127.0.0.1:{port}"
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=5)
                    break
                except OSError:
                    time.sleep(0.5)
            yield uri
        finally:
            os.killpg(process.pid, 15)
            process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(Path(sys.argv[2]).resolve())
    else:
        table()
