"""The way to a cluster: a scheduler that runs, or one that Dask starts."""

import importlib
import os
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Security

from segbench.cluster.settings import ClusterSettings, Tls
from segbench.errors import InputError

CONNECT_S = 30


def connect(settings: ClusterSettings) -> Client:
    """A client of the scheduler that cluster.yaml names, or of a cluster that is started for it.

    Raises:
        InputError: if there is none, or a file for TLS is missing.
    """
    security = None
    if settings.tls:
        # As configuration, which a cluster that Dask starts elsewhere inherits.
        dask.config.set(_encryption(settings.tls))
        security = Security()
    try:
        there = settings.scheduler or _start(settings, security)
        return Client(there, timeout=CONNECT_S, set_as_default=False, security=security)
    except (OSError, ValueError, TypeError, RuntimeError) as problem:
        where = settings.scheduler or settings.start
        said = " ".join(str(problem).split())[:300]
        raise InputError(f"{where}: no cluster: {said}; look at it, and at cluster.yaml") from None


def _encryption(tls: Tls) -> dict[str, Any]:
    """Dask's configuration, in which all sides have the same files."""
    files = {name: os.path.expanduser(os.path.expandvars(path)) for name, path in tls}
    for name, path in files.items():
        if not Path(path).is_file():
            raise InputError(f"tls.{name}: {path}: no file; docs/cluster.md makes one")
    sides = {
        f"tls.{side}.{name}": files[name]
        for side in ("client", "scheduler", "worker")
        for name in ("cert", "key")
    }
    comm = {"require-encryption": True, "default-scheme": "tls", "tls.ca-file": files["ca"]}
    return {f"distributed.comm.{key}": value for key, value in {**comm, **sides}.items()}


def _start(settings: ClusterSettings, security: Security | None) -> Any:
    assert settings.start
    module, _, name = settings.start.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise InputError(
            f"start: {settings.start}: {problem}; install what has it, such as "
            "'pip install dask-jobqueue'"
        ) from None
    given = {} if security is None else {"security": security}
    cluster = kind(**given, **settings.options)
    if settings.workers is not None:
        cluster.scale(settings.workers)
    return cluster
