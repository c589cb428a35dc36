"""`segbench review`: the committed report, and whether it stands."""

import re
from pathlib import Path

import click

from segbench.errors import InputError
from segbench.workspace import enter_workspace

REPORT, LOCK = Path("reports/comparison.md"), Path("dvc.lock")
MOST_CHARACTERS = 65_000
"""GitHub's comments take 65,536."""
FEW = 3


@click.command(
    epilog="""\b
Examples:
  segbench review              the report, and whether it stands
  segbench review --pictures https://host/raw/main/reports > comment.md
"""
)
@click.option(
    "--pictures",
    metavar="URL",
    default="",
    help="Of the folder reports, where whoever reads the report elsewhere finds its pictures.",
)
def review(pictures: str) -> None:
    """Print the committed report; fail unless it stands.

    It stands if all of comparison.require is met, and if params.yaml, code and reports are those of
    dvc.lock: 'segbench repro' would run nothing. Needs what git holds, and no data.
    """
    enter_workspace()
    if not LOCK.exists() and not REPORT.exists():
        click.echo("no results yet: 'segbench repro' makes them", err=True)
        return
    if not REPORT.exists():
        raise InputError(f"{REPORT} is not there; 'segbench repro' writes it, git add it")
    text = REPORT.read_text()
    click.echo(_for_a_comment(text, pictures), nl=False)
    from segbench.comparison.requirements import missed_in
    from segbench.planning.committed import stale_stages

    wrong = [f"comparison.require: {missed} is not met" for missed in missed_in(text)]
    if stale := stale_stages(Path()):
        few = ", ".join(stale[:FEW]) + (f" and {len(stale) - FEW} more" if stale[FEW:] else "")
        wrong.append(
            f"dvc.lock is not of what lies beside it: {few} would run; 'segbench repro', then "
            "'git add dvc.lock params.yaml reports'"
        )
    if wrong:
        raise InputError("; ".join(wrong))


def _for_a_comment(text: str, pictures: str) -> str:
    """The report with addresses of its pictures, and not longer than a comment may be."""
    if pictures:
        place = rf"\g<1>{pictures.rstrip('/')}/\g<2>)"
        text = re.sub(r"(!\[[^]]*\]\()(?!\w+:)([^)]+)\)", place, text)
    if len(text) <= MOST_CHARACTERS:
        return text
    whole_lines = text[:MOST_CHARACTERS].rpartition("\n")[0]
    return f"{whole_lines}\n\nCut here; all of it is {REPORT}.\n"
