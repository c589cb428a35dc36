"""`segbench recipe`: run a complete params file in a copy of the workspace."""

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from segbench.commands.repro import JOBS
from segbench.workspace import enter_workspace, find_workspace


def headlines(root: Path) -> dict[str, str]:
    """The first line of each recipe's header, by name."""
    return {
        path.stem: path.read_text().partition("\n")[0].lstrip("# ")
        for path in sorted(root.glob("recipes/*.yaml"))
    }


def complete_name(_ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem[str]]:
    """Recipes whose name begins so."""
    known = headlines(root) if (root := find_workspace()) else {}
    return [
        CompletionItem(name, help=text)
        for name, text in known.items()
        if name.startswith(incomplete)
    ]


@click.command(
    epilog="""\b
Examples:
  segbench recipe                      what recipes there are
  segbench recipe cvc-mobilenetv2      run one
  segbench recipe best-cvc dataset.source=/data/cvc
  segbench recipe best-cvc --as mine train.num_epochs=9 'comparison.seeds=[0]'
  segbench recipe cvc-folds --jobs auto      its trainings side by side
  segbench recipe best-cvc --fresh     after files of the dataset have changed

Paths in KEY=VALUE are relative to the repository's root. The same command again goes on where it
stopped.
"""
)
@click.argument("name", required=False, shell_complete=complete_name)
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--as", "alias", metavar="OTHER", help="Name of the copy and of the run  [default: NAME]"
)
@click.option("--fresh", is_flag=True, help="Read the dataset's files anew.")
@click.option(
    "-j",
    "--jobs",
    **JOBS,
    help="Run so many stages at a time, as 'segbench repro --jobs' does; by itself one after "
    "another, as the recipes' own figures were made.",
)
def recipe(
    name: str | None, changes: tuple[str, ...], alias: str | None, fresh: bool, jobs: str
) -> None:
    """List the recipes, or run one in a copy.

    A recipe is a complete params file in recipes/. It runs in a copy of the repository, runs/NAME;
    params.yaml, dvc.lock and reports/ here stay as they are. KEY=VALUE changes a key of it.
    """
    if name is None and (alias or fresh or jobs):
        raise click.UsageError("name the recipe to run")
    if name is not None and "=" in name:
        raise click.UsageError(f"name the recipe before {name}")
    enter_workspace()
    if name is None:
        for known, text in headlines(Path()).items():
            click.echo(f"{known:<18}{text}")
        return
    from segbench.recipes import run_recipe

    click.echo(run_recipe(name, alias or name, [*changes], fresh, jobs))
