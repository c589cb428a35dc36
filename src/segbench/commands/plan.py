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
    from segbench.doctor.outside import check_weights
    from segbench.params import load_params
    from segbench.plan import make_plan
    from segbench.watch import look_at_source

    params = load_params(Path("params.yaml"))
    check_weights(Path(), params)
    source = look_at_source(Path(), params.dataset)
    if source.said:
        then = "; download runs again, and all else only if that makes other images or masks"
        click.echo(f"{source.said}{then * source.is_new}", err=True)
    click.echo(make_plan(params, source.is_new))
