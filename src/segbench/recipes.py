"""Recipes: a complete params file run under its own name, in a copy beside the workspace.

The copy is a clone in runs/<name>. Its params.yaml is the recipe plus the changes given; it shares
the workspace's DVC cache, datasets/, weights/ and MLflow. params.yaml and dvc.lock of the workspace
itself are not touched. Results are committed in the copy and fetched into the workspace as
refs/recipes/<name>.
"""

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segbench.errors import InputError
from segbench.files import atomic_file, atomic_folder
from segbench.params import former_key, load_params
from segbench.params.section import did_you_mean
from segbench.params.train import Train
from segbench.tracking.address import tracking_uri
from segbench.workspace import run_pipeline

RECIPES, RUNS = Path("recipes"), Path("runs")
LENT = ("datasets", "weights")
"""Folders of user files, linked into the copy; recipes name them relative to the workspace."""
OWN = ("params.yaml", "dvc.lock", "reports", "data", *LENT)
"""Paths that are not updated from the workspace."""
CODE = ("src", "stages")
"""Folders from which untracked files are copied too."""
# Commits made by this program in its own clone: no signature, no hooks, no personal identity.
SETTINGS = (
    *("-c", "user.name=segbench", "-c", "user.email=segbench@localhost"),
    *("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"),
)


def run_recipe(
    name: str, alias: str, changes: list[str], fresh: bool = False, jobs: str = ""
) -> str:
    """Run a recipe in its copy.

    Args:
        name: of the file in recipes/.
        alias: name of the copy, and of the run in the report and MLflow.
        changes: `key=value` with dotted keys.
        fresh: reread the dataset's files.
        jobs: how many stages run at a time, or `auto`; empty: one after another.

    Returns:
        The leaderboard, and where the report is.

    Raises:
        InputError: for an unknown recipe or key, an invalid value, a copy that is in use, and
            stages that fail.
    """
    recipe = RECIPES / f"{name}.yaml"
    if not recipe.exists():
        known = [path.stem for path in sorted(RECIPES.glob("*.yaml"))]
        raise InputError(
            f"no recipe '{name}'{did_you_mean(name, known)}; take from {', '.join(known)}"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", alias):
        raise InputError(f"'{alias}' cannot name a run; use up to 64 letters, digits, '_' and '-'")
    RUNS.mkdir(exist_ok=True)
    try:
        with FileLock(RUNS / f".{alias}.lock", timeout=0):
            return _run_in(RUNS / alias, recipe, alias, changes, fresh, jobs)
    except Timeout:
        raise InputError(
            f"{alias} is running already; wait for it, or name another run with --as OTHER"
        ) from None


def _run_in(
    copy: Path, recipe: Path, alias: str, changes: list[str], fresh: bool, jobs: str
) -> str:
    _bring_up_to_date(copy)
    with atomic_file(copy / "params.yaml") as partial:
        _write_params(recipe, alias, changes, partial)
    params = load_params(copy / "params.yaml")
    if note := about_epochs(params.train, changes):
        print(note, file=sys.stderr)
    _commit(copy, f"Recipe {recipe.stem}")
    environment = {**_without_git(), "MLFLOW_TRACKING_URI": tracking_uri(Path.cwd())}
    if fresh:
        sets = (f"download_external@{name}" for name in params.comparison.external)
        fresh_run = ("--single-item", "--force", "download", *sets)
        run_pipeline(copy, params, *fresh_run, environment=environment)
    run_pipeline(copy, params, environment=environment, jobs=jobs)
    _commit(copy, f"Recipe {recipe.stem}: what came out")
    _git("fetch", "--quiet", str(copy.resolve()), f"+HEAD:refs/recipes/{alias}")
    with FileLock(RUNS / ".index"):
        _write_index()
    return (
        f"{(copy / 'data/compare/leaderboard.txt').read_text().rstrip()}\n"
        f"in full: {copy / 'reports/comparison.html'}, listed in {RUNS / 'index.html'}; "
        f"committed as refs/recipes/{alias}"
    )


def about_epochs(recipe: Train, changes: list[str]) -> str:
    """What a change of the epochs leaves as it is: those of the second phase; empty if nothing."""
    keys = {change.partition("=")[0] for change in changes}
    second = recipe.fine_tune
    if not second or "train.num_epochs" not in keys or "train.fine_tune.num_epochs" in keys:
        return ""
    return (
        f"note: train.fine_tune adds {second.num_epochs} epochs to the {recipe.num_epochs} of "
        "train.num_epochs; train.fine_tune.num_epochs=N changes that too"
    )


def _bring_up_to_date(copy: Path) -> None:
    """Clone the workspace if necessary, and copy its current files, committed or not.

    The copy keeps its own history, so that earlier results stay reachable.
    """
    if not copy.exists():
        with atomic_folder(copy) as partial:
            _git("clone", "--quiet", "--no-checkout", str(Path.cwd()), str(partial))
    elif not (copy / ".git").is_dir():
        raise InputError(f"{copy}: not the copy of a recipe; move it away, or use --as OTHER")
    else:
        for left in (*copy.glob(".git/*.lock"), *copy.glob(".git/refs/**/*.lock")):
            left.unlink()  # of a git that was killed; the copy is ours alone
        _commit(copy, "What an unfinished run left")
        _git("fetch", "--quiet", str(Path.cwd()), "HEAD", at=copy)
        _git("merge", "--quiet", "--strategy", "ours", "--no-edit", "FETCH_HEAD", at=copy)
    for path in copy.iterdir():
        if path.name not in (*OWN, ".git", ".dvc"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    known = _git("ls-files", "-z", "--cached")
    new = _git("ls-files", "-z", "--others", "--exclude-standard", "--", *CODE)
    for name in f"{known}\0{new}".split("\0"):
        path = Path(name)
        if name and (path.parts[0] not in OWN or name == "data/.gitignore") and _is_file(path):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy / path, follow_symlinks=False)
    for folder in LENT:
        link, lent = copy / folder, Path(folder).resolve()
        if link.is_symlink() and link.resolve() != lent:
            link.unlink()  # the workspace was moved or copied
        if lent.exists() and not link.is_symlink():
            link.symlink_to(lent)
    dvc = [sys.executable, "-m", "dvc", "cache", "dir"]
    _output([*dvc, "--local", _output(dvc)], at=copy)


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _write_params(recipe: Path, alias: str, changes: list[str], path: Path) -> None:
    yaml = YAML()
    yaml.width = 1000
    load_params(recipe)  # says what is wrong with it
    tree = yaml.load(recipe.read_text())
    tree["comparison"]["name"] = alias
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"'{change}' sets nothing; write KEY=VALUE")
        *sections, last = key.split(".")
        place: Any = tree
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            if fate := former_key(key):
                raise InputError(f"{change}: {key} {fate}")
            near = did_you_mean(last, place) if isinstance(place, dict) else ""
            raise InputError(f"{change}: {recipe} has no key '{key}'{near}")
        try:
            place[last] = YAML(typ="safe", pure=True).load(text)
        except (YAMLError, ValueError, RecursionError):
            raise InputError(f"{change}: '{text}' is not a value of YAML; quote it") from None
    with path.open("w") as file:
        yaml.dump(tree, file)


def _commit(copy: Path, message: str) -> None:
    _git("add", "--all", at=copy)
    if _git("status", "--porcelain", at=copy):
        _git("commit", "--quiet", "-m", message, at=copy)


def _write_index() -> None:
    """Write a page that links the report of each recipe run so far."""
    items = []
    for report in sorted(RUNS.glob("*/reports/comparison.md")):
        verdict = re.search(r"\*\*(.+?)\*\*", report.read_text())
        said = html.escape(re.sub(r"\\([^\w\s])", r"\1", verdict[1]) if verdict else "")
        link = report.with_suffix(".html").relative_to(RUNS).as_posix()
        items.append(f'<dt><a href="{link}">{report.parts[1]}</a></dt><dd>{said}</dd>')
    with atomic_file(RUNS / "index.html") as partial:
        partial.write_text(
            '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Recipes</title>\n'
            "<style>:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; } "
            "body { margin: 2rem auto; max-width: 46rem; padding: 0 1rem; }</style>\n"
            f"<h1>Recipes that were run</h1>\n<dl>{''.join(items)}</dl>\n</html>\n"
        )


def _git(*arguments: str, at: Path | None = None) -> str:
    """Run git on the workspace, or on exactly the copy given."""
    place = () if at is None else (f"--git-dir={at / '.git'}", f"--work-tree={at}")
    return _output(["git", *place, *SETTINGS, *arguments])


def _without_git() -> dict[str, str]:
    """The environment without variables that redirect git to another repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _output(command: list[str], at: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=at, env=_without_git(), capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise InputError(f"{command[0]}: not found; install it") from None
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise InputError(f"'{' '.join(command)[:120]}' failed: {said}; mend it and try again")
    return done.stdout.strip("\n")
