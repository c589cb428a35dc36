"""Recipes: a complete params file run under its own name, in a copy beside the workspace.

    python -m segbench.recipes                         what recipes there are
    python -m segbench.recipes NAME [--as OTHER] [KEY=VALUE...]

The copy is a clone in runs/<name>: its params.yaml is the recipe, with what is set on the command
line; it shares the workspace's DVC cache, its folders datasets/ and weights/, and its MLflow. The
workspace itself, its params.yaml and its dvc.lock stay as they are. What came out is committed in
the copy and fetched as refs/recipes/<name>.
"""

import argparse
import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segbench.errors import InputError
from segbench.params import load_params
from segbench.params.section import did_you_mean
from segbench.writing import whole_file

RECIPES, RUNS = Path("recipes"), Path("runs")
LENT = ("datasets", "weights")
"""Folders of the user's own files, which recipes name relative to the workspace."""
OWN = ("params.yaml", "dvc.lock", "reports", "data")
"""What the copy has of its own."""


def describe() -> str:
    """Each recipe with the first line of its header."""
    lines = []
    for path in sorted(RECIPES.glob("*.yaml")):
        first = path.read_text().splitlines()[0].lstrip("# ")
        lines.append(f"{path.stem:<18}{first}")
    return "\n".join(lines)


def run_recipe(name: str, alias: str, changes: list[str]) -> str:
    """Run a recipe in its copy.

    Args:
        name: of the file in recipes/.
        alias: what the copy, the report and MLflow call it.
        changes: `key=value`, keys with dots.

    Returns:
        The leaderboard, and where the report is.

    Raises:
        InputError: for a recipe, a key or a value that does not exist, and stages that fail.
    """
    recipe = RECIPES / f"{name}.yaml"
    if not recipe.exists():
        known = [path.stem for path in sorted(RECIPES.glob("*.yaml"))]
        raise InputError(f"no recipe '{name}'{did_you_mean(name, known)}; take from {known}")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", alias):
        raise InputError(f"'{alias}' cannot name a run; use letters, digits, '.', '_' and '-'")
    copy = RUNS / alias
    _bring_up_to_date(copy)
    params = copy / "params.yaml"
    with whole_file(params) as partial:
        _write_params(recipe, alias, changes, partial)
    load_params(params)
    _commit(copy, f"Recipe {name}")
    environment = {
        **os.environ,
        "PYTHONPATH": str((copy / "src").resolve()),
        "MLFLOW_TRACKING_URI": _output("python", "-m", "segbench.tracking", "--uri"),
    }
    done = subprocess.run(["dvc", "repro"], cwd=copy, env=environment, check=False)
    if done.returncode != 0:
        raise InputError(
            f"{alias}: a stage failed, see above; mend the cause and run the same command again, "
            f"what is done stays done (in {copy})"
        )
    _commit(copy, f"Recipe {name}: what came out")
    _output("git", "fetch", "--quiet", str(copy.resolve()), f"+HEAD:refs/recipes/{alias}")
    _write_index()
    return (
        f"{(copy / 'data/compare/leaderboard.txt').read_text().rstrip()}\n"
        f"in full: {copy / 'reports/comparison.html'}, listed in {RUNS / 'index.html'}; "
        f"committed as refs/recipes/{alias}"
    )


def _bring_up_to_date(copy: Path) -> None:
    """Clone the workspace if need be, and bring its files into the copy as they lie here now."""
    if not (copy / ".git").exists():
        shutil.rmtree(copy, ignore_errors=True)
        copy.parent.mkdir(exist_ok=True)
        _output("git", "clone", "--quiet", "--no-checkout", str(Path.cwd()), str(copy))
    _output("git", "fetch", "--quiet", str(Path.cwd()), "HEAD", at=copy)
    _output("git", "reset", "--quiet", "--soft", "FETCH_HEAD", at=copy)
    # What is new here and not committed belongs to the workspace as well.
    listed = _output("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    files = [Path(name) for name in listed.split("\0") if name]
    files = [path for path in files if path.parts[0] not in OWN and path.is_file()]
    files.append(Path("data/.gitignore"))
    for path in copy.iterdir():
        if path.name not in (*OWN, ".git", ".dvc"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in files:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy / path)
    for folder in LENT:
        if Path(folder).exists():
            (copy / folder).symlink_to(Path(folder).resolve())
    _output("dvc", "cache", "dir", "--local", _output("dvc", "cache", "dir"), at=copy)


def _write_params(recipe: Path, alias: str, changes: list[str], path: Path) -> None:
    yaml = YAML()
    yaml.width = 1000
    tree = yaml.load(recipe.read_text())
    for change in [f"comparison.name={alias}", *changes]:
        key, _, text = change.partition("=")
        *sections, last = key.split(".")
        place: Any = tree
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            near = did_you_mean(last, place) if isinstance(place, dict) else ""
            raise InputError(f"{change}: {recipe} has no key '{key}'{near}")
        try:
            place[last] = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            raise InputError(f"{change}: '{text}' is not a value of YAML; quote it") from None
    with path.open("w") as file:
        yaml.dump(tree, file)


def _commit(copy: Path, message: str) -> None:
    _output("git", "add", "--all", at=copy)
    if _output("git", "status", "--porcelain", at=copy):
        who = ("-c", "user.name=segbench", "-c", "user.email=segbench@localhost")
        _output("git", *who, "commit", "--quiet", "--no-verify", "-m", message, at=copy)


def _write_index() -> None:
    """A page with a link to the report of each recipe that was run."""
    items = []
    for report in sorted(RUNS.glob("*/reports/comparison.html")):
        text = report.with_suffix(".md").read_text()
        verdict = re.search(r"\*\*(.+?)\*\*", text)
        said = html.escape(verdict[1] if verdict else "")
        link = report.relative_to(RUNS).as_posix()
        items.append(f'<dt><a href="{link}">{report.parts[1]}</a></dt><dd>{said}</dd>')
    with whole_file(RUNS / "index.html") as partial:
        partial.write_text(
            '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Recipes</title>\n'
            "<style>:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; } "
            "body { margin: 2rem auto; max-width: 46rem; padding: 0 1rem; }</style>\n"
            f"<h1>Recipes that were run</h1>\n<dl>{''.join(items)}</dl>\n</html>\n"
        )


def _output(*command: str, at: Path | None = None) -> str:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[-300:]
        raise InputError(f"'{' '.join(command[:3])}' failed: {reason}; mend it and try again")
    return done.stdout.strip("\n")


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog="segbench.recipes")
    parser.add_argument("name", nargs="?")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--as", dest="alias", metavar="OTHER")
    arguments = parser.parse_intermixed_args()
    if arguments.name is None:
        print(describe())
        return
    try:
        print(run_recipe(arguments.name, arguments.alias or arguments.name, arguments.changes))
    except InputError as mistake:
        sys.exit(f"error: recipe: {mistake}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
