"""cluster.yaml: where workers are, and how far they are trusted."""

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from segbench.errors import InputError

LOCAL = ("distributed.LocalCluster", "dask.distributed.LocalCluster")
LOOPBACK = ("127.", "localhost", "[::1]")


class Settings(BaseModel):
    """Frozen, and unknown keys are errors; a key may have a default, unlike in params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Settings):
    """Files in PEM that every machine of the cluster has; paths may hold variables."""

    ca: Path
    cert: Path
    key: Path


class ClusterSettings(Settings):
    """What cluster.yaml says.

    Raises:
        ValueError: unless there is either a scheduler or a class to start; and for more than one
            machine without TLS.
    """

    scheduler: str | None = None
    """Address of a Dask scheduler that runs already, such as tls://head:8786."""
    start: str | None = None
    """A class of Dask that starts scheduler and workers, such as dask_jobqueue.SLURMCluster."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its arguments."""
    workers: PositiveInt | None = None
    """How many workers it is asked for; null: what its options say."""
    tls: Tls | None = None
    trusted_network: bool = False
    """true: no TLS. Whoever reaches the scheduler or a worker can run commands there."""
    shared: bool = False
    """All machines see this folder and its DVC cache under the same path: no remote is needed."""
    folder: str = "~/.cache/segbench-worker"
    """On a worker, where its clone and its DVC cache lie; it may hold variables of the worker."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables for the stages. No secrets: those belong into the environment of the workers."""
    retries: NonNegativeInt = 3
    """How often a stage starts again whose worker was lost."""
    lost_after_s: Annotated[float, Field(ge=6)] = 60
    """A worker that says nothing for so many seconds is given up."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.scheduler is None) == (self.start is None):
            raise ValueError("set either scheduler, or start with a class of Dask")
        if self.start and "." not in self.start:
            raise ValueError(f"start: '{self.start}' is no module.Class")
        if self.scheduler and "@" in self.scheduler:
            raise ValueError("scheduler: an address holds no name and password")
        if self.tls or self.trusted_network or self._is_here():
            return self
        raise ValueError(
            "more than one machine and no tls: whoever reaches a worker could run commands there; "
            "set tls (docs/cluster.md shows how), or trusted_network: true"
        )

    def _is_here(self) -> bool:
        if self.scheduler is None:
            return self.start in LOCAL and self.options.get("host", "127.0.0.1") == "127.0.0.1"
        host = self.scheduler.rpartition("://")[2]
        return host.startswith(LOOPBACK)


def load_cluster(path: Path) -> ClusterSettings:
    """Read cluster.yaml.

    Raises:
        InputError: if it is missing or says something that does not hold.
    """
    try:
        tree = yaml.safe_load(path.read_text())
        return ClusterSettings.model_validate(tree or {})
    except FileNotFoundError:
        raise InputError(f"{path}: no file; docs/cluster.md has three to start from") from None
    except yaml.YAMLError as problem:
        raise InputError(f"{path}: {' '.join(str(problem).split())}") from None
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {f'{key}: ' if key else ''}{said}") from None
