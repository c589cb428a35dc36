"""The most expensive imports of each stage, of the follower, of DVC and of the plan.

    python benchmarks/imports.py [STAGE...] > imports.md

Runs the commands of dvc.yaml on a few small images under `python -X importtime`, each twice, and
prints a table of the second time: seconds that a package's modules take by themselves (`own`, which
adds up to all that is imported), and with what they import in turn (`whole`).
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from digits import ROOT, commands, shrunk
from ruamel.yaml import YAML

SHOWN = 10
LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( +)(\S+)")
REPLAY = (
    "from pathlib import Path; from segbench.tracking.replay import replay, tracking_uri; "
    "replay([next(Path('data/evaluate').glob('*/record'))], tracking_uri(Path()))"
)
PLAN = (
    "from pathlib import Path; from segbench.params import load_params; "
    "from segbench.planning.plan import make_plan; make_plan(load_params(Path('params.yaml')))"
)


def main(asked: list[str]) -> None:
    with TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        tree = shrunk()
        with (clone / "params.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(tree, file)
        calls: dict[str, list[str]] = {}
        for command in commands(tree):
            name = Path(command[0]).stem
            if name in calls:
                timed(command, clone)  # later stages need its results too
                continue
            calls[name] = command
            show(name, command, clone, asked)
        show("follower", ["-c", REPLAY], clone, asked)
        show("dvc", ["-m", "dvc", "status", "--quiet"], clone, asked)
        show("plan", ["-c", PLAN], clone, asked)


def show(name: str, command: list[str], clone: Path, asked: list[str]) -> None:
    """Run a command, and print its table if it was asked for."""
    said = timed(command, clone)
    if not asked or name in asked:
        print(table(name, timed(command, clone)), flush=True)
    assert said, f"{name} says nothing of its imports"


def timed(command: list[str], clone: Path) -> str:
    """What Python says of the imports of a command in a clone."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(clone / "src"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{clone / 'mlflow.db'}",
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # `dvc status` says by its exit status that something has changed.
    if done.returncode and command[:2] != ["-m", "dvc"]:
        sys.exit(done.stderr[-2000:])
    return done.stderr


def table(name: str, said: str) -> str:
    """The most expensive packages as a table in Markdown."""
    own: defaultdict[str, float] = defaultdict(float)
    whole: defaultdict[str, float] = defaultdict(float)
    above: list[tuple[int, str]] = []  # imports that are still going on, since they end last
    for line in reversed(said.splitlines()):
        if found := LINE.match(line):
            package, depth = found[4].split(".")[0], len(found[3])
            above = [pair for pair in above if pair[0] < depth]
            own[package] += int(found[1]) / 1e6
            if all(package != other for _, other in above):
                whole[package] += int(found[2]) / 1e6
            above.append((depth, package))
    rows = sorted(own, key=lambda package: -own[package])[:SHOWN]
    lines = [f"**{name}**: {sum(own.values()):.2f} s", "", "| package | own | whole |", "|-|-|-|"]
    lines += [f"| {package} | {own[package]:.2f} | {whole[package]:.2f} |" for package in rows]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(sys.argv[1:])
