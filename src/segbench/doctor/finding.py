"""What a check found: one line, which may stand in a public bug report."""

import os
import re
from dataclasses import dataclass
from typing import Literal

from segbench.errors import without_secrets

OK: Literal["ok"] = "ok"
NOTE: Literal["note"] = "note"
FAIL: Literal["FAIL"] = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: `note` stops nothing; with `FAIL` some stage does not run.
        name: of what was looked at.
        found: what is there.
        way_out: what to do about it; empty where all is well.
    """

    state: Literal["ok", "note", "FAIL"]
    name: str
    found: str
    way_out: str = ""

    def __str__(self) -> str:
        said = f"{self.found}; {self.way_out}" if self.way_out else self.found
        line = _without_home(without_secrets(" ".join(said.split())))
        return f"{self.state:<5}{self.name:<11}{line}"


def _without_home(text: str) -> str:
    """Text with ~ for the home folder."""
    home = os.path.expanduser("~")  # as it is where a container's user has none
    return re.sub(rf"{re.escape(home)}(?=/|\W|$)", "~", text) if len(home) > 1 else text
