"""`segbench verdict`: one verdict over comparisons on several data sets."""

from pathlib import Path

import click

from segbench.workspace import enter_workspace


@click.command(
    epilog="""\b
Examples:
  segbench verdict runs/a runs/b       over two recipes that were run
  segbench verdict . runs/a runs/b     and over this workspace
  segbench verdict runs/*/ --out reports/polyps
"""
)
@click.argument(
    "runs",
    nargs=-1,
    metavar="RUNS...",
    type=click.Path(resolve_path=True, path_type=Path),
)
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(resolve_path=True, file_okay=False, path_type=Path),
    help="Folder of the page and the tables  [default: reports/verdict]",
)
def verdict(runs: tuple[Path, ...], out: Path | None) -> None:
    """Say which encoder is best over several data sets.

    RUNS are folders of finished comparisons of the same candidates, each on data of its own: copies
    in which recipes ran, or workspaces. Nothing is trained; verdict.html says what holds on these
    data sets, and what on data sets like these.
    """
    enter_workspace()
    from segbench.comparison.several.finished import Layout, shown
    from segbench.comparison.several.page import judge_together

    layout = Layout(
        params="params.yaml",
        lock="dvc.lock",
        split="reports/split.json",
        metrics="reports/metrics",
        evaluations="data/evaluate",
        history="reports/history",
        runs="reports/runs",
    )
    folder = out or Path("reports/verdict")
    click.echo(judge_together([*runs], layout, folder))
    click.echo(f"in full: {shown(folder / 'verdict.html')}")
