"""`segbench repro`: run the pipeline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from segbench.workspace import enter_workspace, find_workspace, run_pipeline

if TYPE_CHECKING:
    from segbench.params import Params


def stages_of(root: Path) -> dict[str, str]:
    """Stages of dvc.yaml and what they do, by name; read without a parser, to complete at once."""
    text = (root / "dvc.yaml").read_text()
    return dict(re.findall(r"^  (\w+):\s*\n(?:    desc: (.*))?", text, re.MULTILINE))


def complete_stage(_ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem[str]]:
    """Stages whose name begins so."""
    stages = stages_of(root) if (root := find_workspace()) else {}
    return [
        CompletionItem(name, help=text)
        for name, text in stages.items()
        if name.startswith(incomplete)
    ]


def check_jobs(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A number of jobs, or auto; '' where none is asked for."""
    if value and value != "auto" and not (value.isdecimal() and int(value)):
        raise click.BadParameter(f"'{value}' is no number of jobs from 1 on, nor auto")
    return value


JOBS: dict[str, Any] = {"metavar": "N|auto", "default": "", "callback": check_jobs}
"""What the option `--jobs` of several commands takes."""


@click.command(
    epilog="""\b
Examples:
  segbench repro                 all of it; a second time nothing runs
  segbench repro --dry           print what would run
  segbench repro split           the stage split, and what it needs
  segbench repro -j auto         stages side by side, on all GPUs or all cores
  segbench repro -j 1            one after another, each with all cores
  segbench repro --cluster cluster.yaml      trainings on other machines
  segbench repro -f -s download  read the dataset's files anew
  segbench repro --wait -s train@mine-0-0    beside another, on another GPU
  segbench repro -- --downstream split       with any option of 'dvc repro'

Ctrl-C ends it cleanly, and the next 'segbench repro' goes on from the last checkpoint.
"""
)
@click.option("-f", "--force", is_flag=True, help="Run stages although they are up to date.")
@click.option("--dry", is_flag=True, help="Only print what would run.")
@click.option(
    "-s", "--single-item", is_flag=True, help="Run the named stages alone, not those they need."
)
@click.option(
    "-k", "--keep-going", is_flag=True, help="If a stage fails, run what does not need it."
)
@click.option("--pull", is_flag=True, help="Fetch what is missing from the DVC remote.")
@click.option("--wait", is_flag=True, help="Wait for another DVC that works in this folder.")
@click.option(
    "-j",
    "--jobs",
    **JOBS,
    help="Run so many stages at a time, each on its GPUs or its share of the cores; one that fails "
    "does not stop the others. auto: as many as suit this machine, which is what happens by itself "
    "on a CPU, unless DVC is given options.",
)
@click.option(
    "--cluster",
    metavar="FILE",
    type=click.Path(path_type=Path, resolve_path=True),
    help="Run trainings and evaluations on the workers that a cluster.yaml names.",
)
@click.argument(
    "stages", nargs=-1, metavar="[STAGE]... [-- DVC_OPTION...]", shell_complete=complete_stage
)
def repro(
    stages: tuple[str, ...], wait: bool, jobs: str, cluster: Path | None, **flags: bool
) -> None:
    """Run what is out of date and print the leaderboard.

    Checks params.yaml first. A STAGE is a name in dvc.yaml (train), or one of its runs
    (train@mine-0-1: alias, fold, seed; evaluate_external@mine-0-1-other: and the external set).
    """
    enter_workspace()
    from segbench.params import load_params

    params = load_params(Path("params.yaml"))
    _check_names(stages, params)
    options = [f"--{name.replace('_', '-')}" for name, given in flags.items() if given]
    others = [*options, *(word for word in stages if word.startswith("-"))]
    if jobs and cluster:
        others.append("--cluster")
    if (jobs or cluster) and others:
        own = "--jobs" if jobs else "--cluster"
        raise click.UsageError(f"{own} does not go with {', '.join(others)}")
    if not (cluster or others):
        from segbench.jobs.slots import default_jobs

        jobs = jobs or default_jobs(params)
    run_pipeline(Path(), params, *options, *stages, wait=wait, jobs=jobs, cluster=cluster)
    if not stages and not flags["dry"]:
        click.echo(Path("data/compare/leaderboard.txt").read_text(), nl=False)


def _check_names(stages: tuple[str, ...], params: Params) -> None:
    """Raise InputError for a misspelt stage; DVC takes paths of outputs too, and checks those."""
    from segbench.errors import InputError
    from segbench.params.section import did_you_mean

    known = stages_of(Path())
    for word in stages:
        if word.startswith("-"):
            return  # what follows are options of DVC and their values
        name, at, run = word.partition("@")
        if known and name not in known and "/" not in word and not Path(word).exists():
            raise InputError(
                f"no stage '{name}'{did_you_mean(name, known)}; there are {', '.join(known)}"
            )
        if at and name in known:
            _check_run(name, run, params)


def _check_run(stage: str, run: str, params: Params) -> None:
    """Raise InputError unless a stage has a run of that name, such as `alias-fold-seed`."""
    from segbench.errors import InputError
    from segbench.params.section import did_you_mean
    from segbench.recovery.mend import PER_SET, REPEATED

    if f"{stage}@" not in (*REPEATED, *PER_SET):
        raise InputError(f"{stage} runs once, for all candidates: 'segbench repro {stage}'")
    chosen = params.comparison
    items, form = [key.item for key in chosen.runs], "ALIAS-FOLD-SEED"
    if f"{stage}@" in PER_SET:
        items, form = [*chosen.external], "SET, of comparison.external"
    elif stage.endswith("_external"):
        items = [f"{item}-{name}" for item in items for name in chosen.external]
        form = f"{form}-SET, of comparison.external"
    if run in items:
        return
    alias = run.split("-")[0]
    if alias in params.candidates and alias not in chosen.candidates:
        raise InputError(f"no run '{stage}@{run}': add {alias} to comparison.candidates")
    of_alias = [f"{stage}@{item}" for item in items if alias and item.split("-")[0] == alias]
    if of_alias:
        near = f" (did you mean {', '.join(of_alias[:3])}?)"
    else:
        near = did_you_mean(f"{stage}@{run}", [f"{stage}@{item}" for item in items])
    raise InputError(
        f"no run '{stage}@{run}'{near}; a run is named {stage}@{form}, all of them {stage}"
    )
