"""What lies outside the repository: MLflow, hubs, downloads, dataset, weights, checkpoints."""

import configparser
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from segbench.doctor.finding import FAIL, NOTE, OK, Finding
from segbench.errors import InputError
from segbench.params import Params
from segbench.params.compare import RunKey
from segbench.params.datasets import Dataset, SyntheticPolyps
from segbench.params.model import Candidate
from segbench.progress import in_bytes

TIMEOUT_S = 3.0
CHECKED_S = 3.0
"""A large database is read no longer."""
HUB = "https://huggingface.co"
OTHER_HUBS = ("https://github.com", "https://download.pytorch.org")
"""Of weights that timm does not fetch from Hugging Face."""
SYNC = "nothing stops without it; 'segbench sync' brings what it misses"


def mlflow(root: Path) -> list[Finding]:
    """The database or the server that runs go to."""
    from segbench.tracking.address import tracking_uri

    uri = tracking_uri(root)
    if uri.startswith("sqlite:///"):
        return [_database(Path(uri.removeprefix("sqlite:///")))]
    if not uri.startswith("http"):
        return [Finding(OK, "mlflow", f"{uri}, not tried")]
    import requests

    from segbench.tracking.reasons import CREDENTIALS

    # Asked as MLflow asks: /health answers whoever comes.
    try:
        answer = requests.get(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
            params={"max_results": "1"},
            timeout=TIMEOUT_S,
            **_credentials(uri),
        )
    except (requests.RequestException, ValueError) as problem:
        return [Finding(NOTE, "mlflow", f"{uri} does not answer ({_reason(problem)})", SYNC)]
    if answer.status_code in (401, 403):
        if "Invalid Host header" in answer.text:
            way_out = "list this name in the server's --allowed-hosts"
            return [Finding(NOTE, "mlflow", f"{uri} does not serve under this name", way_out)]
        said = f"{uri} wants another name or password"
        return [Finding(NOTE, "mlflow", said, f"set {CREDENTIALS}")]
    if not answer.ok:
        said = f"{uri} answers with status {answer.status_code}"
        return [Finding(NOTE, "mlflow", said, f"look at the server; {SYNC}")]
    return [Finding(OK, "mlflow", f"{uri} answers")]


def _credentials(uri: str) -> dict[str, Any]:
    """What MLflow sends: those in the address, else of the environment, or of its file."""
    if urlsplit(uri).username:
        return {}  # requests takes them from there
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"headers": {"Authorization": f"Bearer {token}"}}
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path("~/.mlflow/credentials").expanduser())
    name, password = (
        os.environ.get(key) or parser.get("mlflow", key.lower(), fallback="") or ""
        for key in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    )
    return {"auth": (name, password)} if name and password else {}


def _database(path: Path) -> Finding:
    if not path.exists() and not _writable(path.parent):
        said = f"{path.parent} may not be written to, so that {path.name} cannot be made"
        return Finding(FAIL, "mlflow", said, "make it yours (chown), or set MLFLOW_TRACKING_URI")
    if not path.exists():
        return Finding(OK, "mlflow", f"{path}: none yet")
    anew = f"move {path.name} away, then 'segbench sync' fills a new one from the records"
    until = time.monotonic() + CHECKED_S
    address = f"file:{path.as_posix().replace('?', '%3f').replace('#', '%23')}?mode=rw"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=0.5)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            if half := sorted(name for name in tables if name.startswith("_alembic_tmp")):
                said = f"{path}: half made ({half[0]} is left)"
                return Finding(NOTE, "mlflow", said, f"nothing, if it holds no runs; else {anew}")
            if "runs" not in tables:
                return Finding(FAIL, "mlflow", f"{path}: not a database of MLflow", anew)
            runs = database.execute("SELECT count(*) FROM runs").fetchone()[0]
            database.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            try:
                (whole,) = database.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.OperationalError as problem:
                if "interrupted" not in str(problem):
                    raise
                whole = "ok"  # as far as it was read
            if whole != "ok":
                return Finding(FAIL, "mlflow", f"{path}: damaged ({whole})", anew)
            database.set_progress_handler(None, 0)
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.OperationalError as problem:
        if "locked" in str(problem):
            said = f"{path}: locked by a process that writes to it"
            return Finding(NOTE, "mlflow", said, SYNC)
        return Finding(FAIL, "mlflow", f"{path}: {problem}", f"make it writable, or {anew}")
    except sqlite3.DatabaseError as problem:
        return Finding(FAIL, "mlflow", f"{path}: damaged ({problem})", anew)
    return Finding(OK, "mlflow", f"{path}: whole, {runs} runs, {in_bytes(path.stat().st_size)}")


def _reason(problem: Exception) -> str:
    """Why a request failed, without what urllib3 wraps around it."""
    text = str(problem)
    for sign, reason in {
        "NameResolution": "the name is not known here",
        "timed out": f"no answer within {TIMEOUT_S:.0f} s",
        "refused": "connection refused",
        "CERTIFICATE": "its certificate is not trusted",
        "Proxy": "the proxy refuses",
        "unreachable": "network is unreachable",
    }.items():
        if sign in text:
            return reason
    return type(problem).__name__


def hubs() -> list[Finding]:
    """Whether pretrained weights can be fetched; being offline is no fault."""
    import requests

    addresses = (os.environ.get("HF_ENDPOINT") or HUB, *OTHER_HUBS)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        said = "HF_HUB_OFFLINE is set, so that huggingface.co is not asked"
        return [Finding(NOTE, "hubs", said, "unset it to fetch weights")]

    def ask(address: str) -> str:
        try:
            requests.head(address, timeout=TIMEOUT_S)
        except (requests.RequestException, ValueError) as problem:
            return _reason(problem)
        return ""

    with ThreadPoolExecutor(len(addresses)) as pool:
        found = dict(zip(addresses, pool.map(ask, addresses), strict=True))
    names = {address: urlsplit(address).hostname or address for address in found}
    silent = {names[address]: reason for address, reason in found.items() if reason}
    if not silent:
        return [Finding(OK, "hubs", f"{', '.join(names.values())} answer")]
    way_out = (
        "needed for weights that are not cached: set HTTPS_PROXY or HF_ENDPOINT, or weights to a "
        "local file with its weights_sha256, or to none"
    )
    said = ", ".join(f"{name} ({reason})" for name, reason in silent.items())
    answering = [names[address] for address, reason in found.items() if not reason]
    also = f"; {', '.join(answering)} answer" if answering else ""
    return [Finding(NOTE, "hubs", f"no answer from {said}{also}", way_out)]


def downloads() -> list[Finding]:
    """Folders that weights and datasets are fetched into."""
    import pooch

    try:
        datasets = _data_cache(pooch.os_cache)
    except RuntimeError:
        way_out = "set SEGBENCH_CACHE and HF_HOME to folders that can be written to"
        return [Finding(NOTE, "downloads", "this user has no home folder to keep them in", way_out)]
    places = {
        "datasets": (datasets, "SEGBENCH_CACHE"),
        "weights": (_weights_cache(), "HF_HOME"),
    }
    refused = {
        f"{path} ({name})": variable
        for name, (path, variable) in places.items()
        if not _writable(path)
    }
    said = ", ".join(f"{path} ({name})" for name, (path, _) in places.items())
    if refused:
        way_out = f"make it yours (chown), or set {' and '.join(refused.values())}"
        return [Finding(NOTE, "downloads", f"not writable: {', '.join(refused)}", way_out)]
    return [Finding(OK, "downloads", f"go to {said}")]


def _data_cache(default: Callable[[str], Path]) -> Path:
    return Path(os.environ.get("SEGBENCH_CACHE") or default("segbench"))


def _weights_cache() -> Path:
    home = os.environ.get("HF_HOME") or _user_cache() / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub"))


def _user_cache() -> Path:
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))


def _writable(path: Path) -> bool:
    """Whether files can be made in a folder, or it in those above it."""
    here = next(one for one in (path, *path.absolute().parents) if one.exists())
    return here.is_dir() and os.access(here, os.W_OK | os.X_OK)


def data(root: Path, params: Params | None) -> list[Finding]:
    """Whether the files of the dataset and of external sets can be read."""
    if params is None:
        return [Finding(NOTE, "data", "not looked at, since params.yaml is not valid")]
    found = [_files_of(root, params.dataset, "dataset")]
    for name, section in params.comparison.external.items():
        key = f"comparison.external.{name}"
        one = _files_of(root, section, key)
        found.append(replace(one, found=f"{key}: {one.found.removeprefix(f'{key}.')}"))
    from segbench.datasets.external import check_external

    try:
        check_external(params.dataset, params.comparison.external)
    except InputError as mistake:
        found.append(Finding(FAIL, "data", str(mistake)))
    return found


def _files_of(root: Path, made: Dataset, key: str) -> Finding:
    """Whether the files of one of them, whose section has this key, can be read."""
    if isinstance(made, SyntheticPolyps):
        return Finding(OK, "data", "generated, needs no file")
    if made.source is None:
        import pooch

        unpacked = sorted((_data_cache(pooch.os_cache) / made.name).glob("unpacked-*"))
        if unpacked:
            return Finding(OK, "data", f"{made.name}, fetched before: {unpacked[0]}")
        return Finding(OK, "data", f"{made.name}, will be fetched ('segbench plan' tries)")
    path = Path(made.source).expanduser()
    there = root / path
    if not there.exists():
        way_out = f"mount it, or correct {key}.source (relative to the repository's root)"
        return Finding(FAIL, "data", f"{key}.source {path} does not exist", way_out)
    if not os.access(there, os.R_OK | (os.X_OK if there.is_dir() else 0)):
        way_out = "ask its owner for the right to read it"
        return Finding(FAIL, "data", f"{key}.source {path} may not be read", way_out)
    if there.is_file():
        return Finding(OK, "data", f"{path}, an archive of {in_bytes(there.stat().st_size)}")
    from segbench.datasets.download import source_of

    try:
        readers = source_of(made.name).readers(made)
    except InputError as mistake:
        return Finding(FAIL, "data", str(mistake))
    return Finding(OK, "data", f"{path}, {sum(reader.count for reader in readers)} samples")


def weights(root: Path, params: Params | None) -> list[Finding]:
    """Whether the weights of the candidates are at hand."""
    if params is None:
        return [Finding(NOTE, "weights", "not looked at, since params.yaml is not valid")]
    chosen = {alias: params.candidates[alias] for alias in params.comparison.candidates}
    found = {alias: _weights(root, one) for alias, one in chosen.items()}
    wrong = [f"{alias}: {said}" for alias, (state, said) in found.items() if state == FAIL]
    if wrong:
        return [Finding(FAIL, "weights", one) for one in wrong]
    lacking = [alias for alias, (state, _) in found.items() if state == NOTE]
    if lacking:
        said = f"of {', '.join(lacking)} are not cached, they are fetched by the training"
        way_out = "offline, set weights to a local file with its weights_sha256, or to none"
        return [Finding(NOTE, "weights", said, way_out)]
    by_kind: dict[str, list[str]] = {}
    for alias, (_, said) in found.items():
        by_kind.setdefault(said, []).append(alias)
    told = "; ".join(f"{kind}: {', '.join(aliases)}" for kind, aliases in by_kind.items())
    return [Finding(OK, "weights", told)]


def check_weights(root: Path, params: Params) -> None:
    """Raise InputError for weights files that are missing or wrong, before anything runs.

    Those of a training that dvc.lock knows are not asked for: a clone that pulled its results has
    no use for them.

    Args:
        root: of the workspace.
        params: of it.
    """
    for alias in dict.fromkeys(key.candidate for key in _untrained(root, params)):
        state, said = _weights(root, params.candidates[alias])
        if state == FAIL:
            raise InputError(f"candidates.{alias}.weights: {said}")


def _untrained(root: Path, params: Params) -> list[RunKey]:
    """Runs whose training dvc.lock does not know."""
    from segbench.recovery.lock_file import locked_stage

    return [run for run in params.comparison.runs if not locked_stage(root, f"train@{run.item}")]


def store(params: Params | None) -> list[Finding]:
    """Whether checkpoints can be kept where `checkpoints.url` says, if it does."""
    if params is None or params.checkpoints.url is None:
        return []
    from segbench.training.mirror import open_store

    try:
        open_store(params.checkpoints.url)
    except InputError as mistake:
        return [Finding(FAIL, "store", str(mistake))]
    return [Finding(OK, "store", f"checkpoints.url {params.checkpoints.url} answers")]


def check_store(root: Path, params: Params) -> None:
    """Raise InputError if `checkpoints.url` cannot be used and anything is left to train.

    Args:
        root: of the workspace.
        params: of it.
    """
    if params.checkpoints.url and _untrained(root, params):
        from segbench.training.mirror import open_store

        open_store(params.checkpoints.url)


def _weights(root: Path, candidate: Candidate) -> tuple[str, str]:
    """The state of a candidate's weights, and what is said of it."""
    from segbench.files import sha256_of

    if candidate.from_scratch:
        return OK, "from scratch"
    if candidate.weights != "imagenet":
        path = root / Path(candidate.weights)
        if not path.is_file():
            return FAIL, f"{candidate.weights}: no such file; correct weights"
        if sha256_of(path) != candidate.weights_sha256:
            return (
                FAIL,
                f"{candidate.weights}: not of weights_sha256; fetch it again, or correct it",
            )
        return OK, "local files, as their sha256 says"
    # By name: to ask the libraries takes seconds of imports.
    name = candidate.encoder.removeprefix("tu-")
    kept = [*_weights_cache().glob(f"models--*--{name}.*"), *_torch_hub().glob(f"{name}[.-_]*")]
    if any(one.is_file() or any(one.glob("snapshots/*/*")) for one in kept):
        return OK, "cached"
    return NOTE, "not cached"


def _torch_hub() -> Path:
    return Path(os.environ.get("TORCH_HOME") or _user_cache() / "torch", "hub/checkpoints")
