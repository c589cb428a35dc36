"""git, dvc.yaml, dvc.lock, locks, and DVC's cache and remote."""

import configparser
import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from segbench.doctor.finding import FAIL, NOTE, OK, Finding

TIMEOUT_S = 3.0
PORTS = {"http": 80, "https": 443, "ssh": 22, "webdav": 80, "webdavs": 443}
SHARED_BY_MANY = {
    "s3": "s3.amazonaws.com",
    "gs": "storage.googleapis.com",
    "gdrive": "www.googleapis.com",
}
SECRET = {"password", "secret_access_key", "session_token", "account_key", "sas_token", "token"}
"""Settings of a DVC remote."""
LINKS = "reflink, copy"
"""DVC's own choice."""


def git(root: Path) -> list[Finding]:
    """Commit, branch, what is changed, and whether the history is whole."""
    try:
        found = _git(root, "--version")
        inside = _git(root, "rev-parse", "--show-toplevel")
    except OSError:
        return [Finding(FAIL, "git", "not found", "install it: DVC needs it")]
    if inside is None:
        if "safe.directory" in _run(root, "status").stderr:
            way_out = f"git config --global --add safe.directory {root}"
            said = f"{found}, which refuses a repository that belongs to another user"
            return [Finding(FAIL, "git", said, way_out)]
        way_out = "clone segbench with git, or 'git init' here: reports name the commit"
        return [Finding(FAIL, "git", f"{found}, but no repository here", way_out)]
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if commit is None:
        return [Finding(NOTE, "git", f"{found}, no commit yet", "'git commit' keeps results")]
    changed = (_git(root, "status", "--porcelain", "--untracked-files=no") or "").splitlines()
    branch = _git(root, "rev-parse", "--abbrev-ref", "HEAD")
    said = f"{found}, {commit} of {'no branch' if branch == 'HEAD' else branch}, "
    said += f"{len(changed)} tracked files changed" if changed else "clean"
    if _git(root, "ls-files", "--unmerged"):
        return [Finding(FAIL, "git", f"{said}, a merge is unfinished", "finish it: 'git status'")]
    if _git(root, "rev-parse", "--is-shallow-repository") == "true":
        return [
            Finding(NOTE, "git", f"{said}, shallow", "'git fetch --unshallow', if it is needed")
        ]
    return [Finding(OK, "git", said)]


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None if it fails."""
    done = _run(root, *arguments)
    return done.stdout.strip() if done.returncode == 0 else None


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=20
    )


def pipeline(root: Path) -> list[Finding]:
    """Whether dvc.yaml can be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    restore = "'git checkout dvc.yaml'"
    try:
        stages = YAML(typ="safe", pure=True).load((root / "dvc.yaml").read_text())["stages"]
        return [Finding(OK, "dvc.yaml", f"{len(stages)} stages: {', '.join(stages)}")]
    except OSError as problem:
        return [Finding(FAIL, "dvc.yaml", f"{problem.strerror}", restore)]
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError) as problem:
        return [Finding(FAIL, "dvc.yaml", f"damaged ({str(problem)[:160]})", restore)]


def lock_file(root: Path) -> list[Finding]:
    """Whether dvc.lock is whole."""
    from segbench.recovery.lock_file import CONFLICT, LOCK, is_whole, num_stages

    path = root / LOCK
    if not path.exists():
        return [Finding(OK, LOCK, "none yet: every stage has yet to run")]
    text = path.read_bytes().decode(errors="replace")
    if CONFLICT in text:
        way_out = f"take one side ('git checkout --theirs {LOCK}'), then 'segbench repro'"
        return [Finding(FAIL, LOCK, "holds a merge conflict of git", way_out)]
    if not is_whole(text):
        return [Finding(FAIL, LOCK, f"torn, {len(text)} bytes", "'segbench repro' mends it")]
    return [Finding(OK, LOCK, f"whole, {num_stages(text)} stages have run")]


def locks(root: Path) -> list[Finding]:
    """Who works here now, and locks of processes that are gone."""
    from segbench.recovery.process_locks import holders

    folder = root / ".dvc/tmp"
    held = _flocked([folder / "lock", *sorted((root / "data/checkpoints").glob("*/lock"))], root)
    try:
        alive, gone = holders(folder / "rwlock")
    except ValueError:
        said = "torn, so that DVC does not run"
        return [
            Finding(FAIL, "locks", f"{folder / 'rwlock'} is {said}", "'segbench repro' mends it")
        ]
    held += [f"{command} ({pid}) runs stages" for pid, command in sorted(alive.items())]
    if held:
        way_out = "wait for it ('segbench repro --wait'), or end it"
        return [Finding(NOTE, "locks", f"held: {', '.join(held)}", way_out)]
    if gone:
        said = f"DVC's lock names processes that are gone ({', '.join(map(str, gone))})"
        return [Finding(NOTE, "locks", said, "nothing: 'segbench repro' mends it")]
    return [Finding(OK, "locks", "none is held")]


def _flocked(paths: list[Path], root: Path) -> list[str]:
    """Locks of files that a process holds, and which one, without taking them."""
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return []  # not Linux
    holders = {int(line[5].rsplit(":", 1)[1]): line[4] for line in lines if "->" not in line[1]}
    found = []
    for path in paths:
        if path.exists() and (pid := holders.get(path.stat().st_ino)):
            found.append(f"{path.relative_to(root)} by process {pid}")
    return found


def cache(root: Path) -> list[Finding]:
    """DVC's cache, how files are taken from it, and its remote."""
    from segbench.recovery.objects import object_folder

    if not (root / ".dvc").is_dir():
        return [Finding(FAIL, "cache", "no .dvc here", "'git checkout .dvc', or 'dvc init'")]
    try:
        settings = _settings(root)
    except (configparser.Error, UnicodeDecodeError) as problem:
        said = f"DVC's settings in .dvc/config are damaged ({problem})"
        return [Finding(FAIL, "cache", said, "'git checkout .dvc/config'")]
    links = settings.get("cache", {}).get("type", LINKS)
    place = object_folder(root).parents[1]
    here = next(one for one in (place, *place.absolute().parents) if one.exists())
    said = f"{place}, taken from by {links}"
    if not os.access(here, os.W_OK | os.X_OK):
        yours = "make it yours (chown), or 'dvc cache dir --local FOLDER'"
        return [Finding(FAIL, "cache", f"{said}, may not be written to", yours)]
    if not place.is_dir():
        said += ", empty yet"
    return [Finding(OK, "cache", said), _remote(root, settings)]


def _settings(root: Path, *names: str) -> dict[str, dict[str, str]]:
    """DVC's settings of this repository, by section.

    Args:
        root: of the repository.
        names: of the files to read; both if there are none.

    Raises:
        configparser.Error, UnicodeDecodeError: if a file of them is damaged.
    """
    found: dict[str, dict[str, str]] = {}
    for name in names or ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(root / ".dvc" / name)
        for section in parser.sections():
            plain = section.strip("'").replace('"', "")
            own = {key: value.strip("\"'") for key, value in parser[section].items()}
            found.setdefault(plain, {}).update(own)
    return found


def _remote(root: Path, settings: dict[str, dict[str, str]]) -> Finding:
    name = settings.get("core", {}).get("remote")
    if not name:
        said = "none: results can be shared by git alone, data and models cannot"
        return Finding(OK, "remote", said)
    url = settings.get(f"remote {name}", {}).get("url", "")
    parts = urlsplit(url)
    own = _settings(root, "config").get(f"remote {name}", {})
    if urlsplit(own.get("url", "")).password or SECRET & {*own}:
        said = f"{name}, {url}: a password of it stands in .dvc/config, which is in git"
        way_out = (
            f"take it out and change it; 'dvc remote modify --local {name} password ...' keeps one "
            "in .dvc/config.local, which is not"
        )
        return Finding(NOTE, "remote", said, way_out)
    if not url:
        way_out = f"'dvc remote add -d {name} ADDRESS'"
        return Finding(NOTE, "remote", f"{name} has no address", way_out)
    if not parts.scheme or parts.scheme == "file":
        there = (root / ".dvc" / (parts.path if parts.scheme else url)).is_dir()
        state = "" if there else "mount it; 'dvc push' and 'dvc pull' need it, nothing else does"
        said = f"{name}, {url}{'' if there else ' is not there'}"
        return Finding(OK if there else NOTE, "remote", said, state)
    host = SHARED_BY_MANY.get(parts.scheme, parts.hostname or "")
    port = parts.port if parts.scheme in PORTS and parts.port else PORTS.get(parts.scheme, 443)
    if (problem := unreachable(host, port)) is None:
        return Finding(OK, "remote", f"{name}, {url}, {host} answers")
    way_out = "'dvc push' and 'dvc pull' need it, nothing else does"
    return Finding(NOTE, "remote", f"{name}, {url}: {host} does not answer ({problem})", way_out)


def unreachable(host: str, port: int) -> str | None:
    """Why no connection to a host comes about; None if one does."""
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except OSError as problem:
        return problem.strerror or str(problem)
    return None
