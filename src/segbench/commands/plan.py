"""`segbench plan`: what would run, for how long, with how much disk."""

from pathlib import Path

import click

from segbench.commands.repro import JOBS
from segbench.workspace import enter_workspace


@click.command(
    epilog="""\b
Examples:
  segbench plan                what 'segbench repro' would run
  segbench plan -j 4           what four stages at a time would bring here
  segbench plan --workers 8    what eight machines like this one would bring
  segbench repro --dry         the same by the stages' commands, without times
"""
)
@click.option(
    "-j",
    "--jobs",
    **JOBS,
    help="Also plan for so many stages at a time on this machine, as 'segbench repro --jobs' runs "
    "them; as many as that would by itself, if none are named.",
)
@click.option(
    "--workers",
    metavar="N",
    default=0,
    type=click.IntRange(0),
    help="Also plan for so many machines like this one that train and score, one at a time each.",
)
def plan(jobs: str, workers: int) -> None:
    """Say what would run, for how long, with how much disk.

    Times a few samples and a few training steps on this machine: of networks that have a share of
    its cores, in all shares at once. Early stopping may end sooner.
    """
    if jobs and workers:
        raise click.UsageError("--jobs is for this machine, --workers for several: name one")
    enter_workspace()
    from segbench.datasets.external import check_external
    from segbench.doctor.outside import check_weights
    from segbench.jobs.slots import default_jobs
    from segbench.params import load_params
    from segbench.planning.plan import make_plan
    from segbench.watch import look_at_sources

    params = load_params(Path("params.yaml"))
    check_weights(Path(), params)
    check_external(params.dataset, params.comparison.external)
    sources = look_at_sources(Path(), params)
    for source in sources:
        if source.said:
            then = "runs again, and all else only if that makes other images or masks"
            click.echo(f"{source.said}{f'; {source.stage} {then}' * source.is_new}", err=True)
    besides = {source.stage for source in sources if source.is_new}
    jobs = jobs or ("" if workers else default_jobs(params))
    click.echo(make_plan(params, besides, jobs, workers))
