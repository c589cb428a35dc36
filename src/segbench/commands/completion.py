"""`segbench completion`: what a shell needs to complete commands."""

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="""\b
Examples:
  eval "$(segbench completion bash)"     in ~/.bashrc (bash 4.4 and later)
  eval "$(segbench completion zsh)"      in ~/.zshrc, after compinit
  segbench completion fish > ~/.config/fish/completions/segbench.fish
"""
)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what a shell needs to complete commands.

    SHELL is bash, zsh or fish. Options, stages and recipes are completed too.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "segbench", "_SEGBENCH_COMPLETE").source())
