"""Records: what a stage did, on disk first; MLflow is filled from them.

A record is a folder:
    run.json        what is known at the start: `Run`
    metrics.jsonl   a line for each step: {"step", "time_ms", "values"}
    artifacts/      files to show with the run
    end.json        how it ended: status, time, further tags

Nothing here talks to a tracking server; `segbench.tracking` replays a record into one.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from segbench.files import atomic_file, atomic_folder
from segbench.tracking.bounds import check_run
from segbench.tracking.follower import ready, wanted

REPORT = "report/comparison.html"
"""Artifact of a comparison's run."""
CARD, CARD_TAG = "card/card.md", "card"
"""Artifact of a training's run, its model card; and the tag that names it."""


@dataclass(frozen=True)
class DatasetInput:
    """Images that a run was fed, or scored on.

    Attributes:
        name: of the data set.
        digest: of the data set and, behind a dash, of which of its images these are; see
            `split_digest`.
        source: where they lie.
        profile: how many there are, and the like.
        role: `train`, or what stands before the names of the scores on them: `val`, `test`,
            `external/<name>`.
    """

    name: str
    digest: str
    source: str
    profile: dict[str, Any]
    role: str = ""


@dataclass(frozen=True)
class ModelFile:
    """An exported program to log as the run's model.

    Attributes:
        path: relative to the record's folder.
        channels: of its (N, channels, H, W) uint8 images.
        num_outputs: of its (N, num_outputs, H, W) float32 logits.
    """

    path: str
    channels: int
    num_outputs: int


@dataclass(frozen=True)
class Champion:
    """What a comparison says of the model that it found best.

    Attributes:
        model: name under which models of this kind are registered.
        run: id of the run whose model stands for the candidate.
        score: of the candidate on test, by the metric that ranks.
        metric: its name.
        lower_is_better: of that metric.
        data: digest of the data set and of the test images, see `split_digest`.
        doubts: why it should not be used instead of another one, a clause each; none if the test
            set does not speak against it, and it meets what is required.
        relations: what the test set says of the candidates of all runs, by run: `champion`, or as
            `comparison.statistics.decisions.Relation`.
        tags: what to know of it, by label.
    """

    model: str
    run: str
    score: float
    metric: str
    lower_is_better: bool
    data: str
    doubts: list[str]
    relations: dict[str, str]
    tags: dict[str, str]


@dataclass(frozen=True)
class Run:
    """What is known of a run at the start of a stage.

    Attributes:
        id: names the run for ever; the stages of one run (training, its evaluation) share it. A
            comparison's is the hash of what it says.
        stage: `train`, `evaluate`, `evaluate.<name>` (on an external set), `compare` or `deliver`.
        experiment, name: as the tracking server shows them.
        started_ms: UNIX time in milliseconds.
        params: every choice, flat.
        tags: what ties the run to code, data and machine.
        inputs: the data it was fed.
        children: ids of the runs that this one compares.
        model: its exported program.
        comparison: its name, if it is one.
        child_metrics: what this run says of each of them, by id: values by name.
        views: of a comparison, as `views.describe_views` says.
        champion: of a comparison.
    """

    id: str
    stage: str
    experiment: str
    name: str
    started_ms: int
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: list[DatasetInput] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    model: ModelFile | None = None
    comparison: str = ""
    child_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    champion: Champion | None = None


def now_ms() -> int:
    """UNIX time in milliseconds."""
    return time.time_ns() // 1_000_000


def metrics_line(step: int, values: Mapping[str, float]) -> str:
    """The values of a step as a line of metrics.jsonl, with the time, by which a tracking server
    recognises a point."""
    return json.dumps({"step": step, "time_ms": now_ms(), "values": dict(values)}) + "\n"


class Record:
    """Writes a record while a stage runs; leaving the `with` block ends it, also by exception.

    Args:
        folder: is made anew.
        run: what is known at the start.
        lines: of the metrics that the run has from before it was interrupted.
    """

    def __init__(self, folder: Path, run: Run, lines: Iterable[str] = ()) -> None:
        with atomic_folder(folder) as partial:
            (partial / "artifacts").mkdir()
            (partial / "metrics.jsonl").write_text("".join(lines))
            write_run(partial, run)
        self.folder = folder
        self.run = run
        self.tags: dict[str, str] = {}
        """What becomes known during the stage; written at its end."""
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values of a step and sync them to disk."""
        self.write(metrics_line(step, values))

    def write(self, line: str) -> None:
        """Append a line that `metrics_line` made and sync it to disk."""
        self._metrics.write(line)
        self._metrics.flush()
        os.fsync(self._metrics.fileno())

    def artifact(self, name: str) -> Path:
        """The path to write an artifact to; its folder is created."""
        path = self.folder / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._metrics.close()
        interrupted = kind is not None and not issubclass(kind, Exception)
        status = "FINISHED" if kind is None else "KILLED" if interrupted else "FAILED"
        end = {"status": status, "time_ms": now_ms(), "tags": self.tags}
        with atomic_file(self.folder / "end.json") as partial:
            partial.write_text(json.dumps(end, indent=2) + "\n")


def write_run(folder: Path, run: Run) -> None:
    """Write run.json."""
    with atomic_file(folder / "run.json") as partial:
        partial.write_text(json.dumps(asdict(run), indent=2) + "\n")


def read_run(folder: Path) -> Run:
    """Read run.json, whoever wrote it.

    Raises:
        InputError: for one with something in it that no record has.
    """
    fields = json.loads((folder / "run.json").read_text())
    fields.setdefault("stage", fields.pop("part", None))  # its name in older records
    inputs = [DatasetInput(**item) for item in fields.pop("inputs")]
    model, champion = fields.pop("model"), fields.pop("champion", None)
    run = Run(
        **fields,
        inputs=inputs,
        model=ModelFile(**model) if model else None,
        champion=Champion(**champion) if champion else None,
    )
    check_run(run)
    return run


DIGITS = 16
"""Of a sha256 that stand in the digests of data: MLflow takes 36 characters."""


def split_digest(dataset: str, ids: Iterable[str]) -> str:
    """Digest of images of a data set: 16 digits of the whole set's, and 16 of which images.

    Args:
        dataset: its sha256.
        ids: of the images, in any order; one that is named twice counts once.
    """
    names = "\n".join(sorted(set(ids)))
    return f"{dataset[:DIGITS]}-{hashlib.sha256(names.encode()).hexdigest()[:DIGITS]}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested params to `section.key` and text; lists as JSON.

    Characters that MLflow accepts in no key, such as the # of a colour, are dropped.
    """
    flat: dict[str, str] = {}
    for name, value in tree.items():
        key = re.sub(r"[^\w./: -]", "", str(name))
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


@contextmanager
def recorded(
    folder: Path, run: Run, max_wait_s: float, lines: Iterable[str] = ()
) -> Iterator[Record]:
    """Open a record and replay it into MLflow while the block runs, in a process of its own.

    Once the block is over, the replay may take `max_wait_s` seconds more. Its failure never
    disturbs the block; it ends in a warning that says how to replay later.
    """
    record = Record(folder, run, lines)
    if not wanted():
        with record:
            yield record
        return
    follower = ready()
    follower.follow(folder)
    try:
        with record:
            yield record
    finally:
        if not follower.wait(max_wait_s):
            print(
                f"warning: MLflow did not take the run; it is whole in {folder}, "
                "'segbench sync' brings it later",
                file=sys.stderr,
            )
