"""`segbench plan`: what would run, for how long, with how much disk."""

from pathlib import Path

import click

from segbench.workspace import enter_workspace


@click.command(
    epilog="""\b
Examples:
  segbench plan                what 'segbench repro' would run
  segbench repro --dry         the same by the stages' commands, without times
"""
)
def plan() -> None:
    """Say what would run, for how long, with how much disk.

    Times a few samples and a few training steps on this machine. Early stopping may end sooner.
    """
    enter_workspace()
    from segbench.datasets.external import check_external
    from segbench.doctor.outside import check_weights
    from segbench.params import load_params
    from segbench.plan import make_plan
    from segbench.watch import look_at_sources

    params = load_params(Path("params.yaml"))
    check_weights(Path(), params)
    check_external(params.dataset, params.comparison.external)
    sources = look_at_sources(Path(), params)
    for source in sources:
        if source.said:
            then = "runs again, and all else only if that makes other images or masks"
            click.echo(f"{source.said}{f'; {source.stage} {then}' * source.is_new}", err=True)
    click.echo(make_plan(params, {source.stage for source in sources if source.is_new}))
