"""`segbench doctor`: is everything there that a run needs?"""

from collections import Counter
from pathlib import Path

import click

from segbench.workspace import enter_workspace


@click.command(
    epilog="""\b
Examples:
  segbench doctor              a line for each thing, with the way out
  make doctor                  the same, and sets up .venv first
"""
)
def doctor() -> None:
    """Look at everything that a run needs, and change nothing.

    Versions, machine, repository, params, locks, MLflow, network, data and weights: each is ok, a
    note that stops nothing, or a FAIL, and then the exit status is 1. Takes seconds. A bug report
    begins with what this prints; passwords and your home folder are left out of it.
    """
    enter_workspace(whole=False)
    from segbench.doctor.examine import examine, leave

    count: Counter[str] = Counter()
    for finding in examine(Path.cwd()):
        count[finding.state] += 1
        click.echo(str(finding))
    failed, notes = count["FAIL"], count["note"]
    click.echo(f"doctor: {failed or 'nothing'} to mend, {notes} notes")
    leave(1 if failed else 0)
