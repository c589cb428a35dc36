"""The command line: `segbench COMMAND`.

A command is a file in `commands/` with a function of its name; nothing else lists it. All of them
are imported for `segbench --help`, so a command imports what it works with when it works.
"""

import pkgutil
import sys
from importlib import import_module

import click

from segbench import commands
from segbench.errors import exit_statuses, without_secrets

HELP = """Which encoder should my segmentation model have, and how sure can I be?

params.yaml holds every choice of a comparison; DVC runs what is out of date. Commands work from any
folder of the repository.
"""
EXAMPLES = """\b
Examples:
  segbench init /data/cracks   describe your images in params.yaml
  segbench plan                what would run, for how long
  segbench repro               run it, print the leaderboard
  segbench recipe best-cvc     run a recipe in a copy of the repository
  segbench predict --model champion --images new --out masks
  segbench verdict runs/a runs/b    which encoder is best over both
  segbench doctor              is everything there that a run needs
  segbench ui                  look at curves and pictures in a browser
  segbench repro --help        what a command takes, with examples

\b
Exit status: 0 done, 1 a mistake or a failed stage, 2 a wrong command line,
130 stopped by Ctrl-C, 143 by SIGTERM.
"""


def command_line() -> click.Group:
    """The commands of the folder `commands`."""
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    group = click.Group(
        "segbench",
        commands={
            name: getattr(import_module(f"{commands.__name__}.{name}"), name) for name in names
        },
        help=HELP,
        epilog=EXAMPLES,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    return click.version_option(package_name="segbench", message="%(package)s %(version)s")(group)


def main() -> None:
    """Run the command that this process was started with, and end as it ends."""
    with exit_statuses():
        try:
            status = command_line().main(prog_name="segbench", standalone_mode=False)
        except click.exceptions.NoArgsIsHelpError as nothing:
            nothing.show()
            status = nothing.exit_code
        except click.UsageError as mistake:
            print(f"error: {without_secrets(_in_one_line(mistake))}", file=sys.stderr)
            status = mistake.exit_code
        except click.Abort:
            status = 130  # Ctrl-C
    sys.exit(status)


def _in_one_line(mistake: click.UsageError) -> str:
    """What is wrong, what may have been meant, and where to read on."""
    near = getattr(mistake, "possibilities", None)
    said = " ".join((mistake.message if near else mistake.format_message()).split()).rstrip(".")
    if near:
        said += f" (did you mean {', '.join(near)}?)"
    # Where an option lacks its value, click does not say of which command.
    path = mistake.ctx.command_path if mistake.ctx else " ".join(["segbench", *sys.argv[1:2]])
    return f"{said[0].lower()}{said[1:]}; see '{path} --help'"
