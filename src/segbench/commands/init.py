"""`segbench init`: the section `dataset` for one's own images."""

from pathlib import Path

import click

from segbench.workspace import enter_workspace


@click.command(
    epilog="""\b
Examples:
  segbench init /data/cracks             look, and write it into params.yaml
  segbench init cracks.zip --print       look, and only show it
  segbench init /data/other --force      in place of another dataset of yours
"""
)
@click.argument(
    "source",
    required=False,
    metavar="SOURCE",
    type=click.Path(resolve_path=True, path_type=Path),
)
@click.option("--print", "only_print", is_flag=True, help="Write to standard output only.")
@click.option("--force", is_flag=True, help="Replace a section that you wrote; a copy is kept.")
def init(source: Path | None, only_print: bool, force: bool) -> None:
    """Describe your images in params.yaml.

    Looks at SOURCE, a folder or archive (.zip, .tar.gz) of images and masks, and writes the section
    dataset for it: how files go together, what masks mean, what a split must keep together. It says
    what it saw, asks for what it is unsure of in one place, and adapts what must fit (sizes, loss).
    """
    enter_workspace()
    if source is None:
        raise click.UsageError("name the folder or archive of your images")
    from segbench.onboarding.init import plan_params, write_params
    from segbench.onboarding.summary import summarise

    params = Path("params.yaml")
    made = plan_params(source, params, force or only_print)
    if only_print:
        click.echo(made.section, nl=False)
        for change in made.changes:
            click.echo(f"# {change}")
        return
    write_params(made, params)
    click.echo(summarise(made))
