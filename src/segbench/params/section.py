"""What every part of params.yaml is made of."""

import difflib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PACKAGE = Path(__file__).parent.parent
Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A part of params.yaml: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' (did you mean a, b?)' with up to three near names, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(near)}?)" if near else ""


def modules_of(folder: str) -> list[str]:
    """Names of the modules in a folder of this package, none of which is imported.

    Where a folder is a catalogue, a new file in it is all it takes for params to know its name.
    """
    return sorted(module.name for module in pkgutil.iter_modules([str(PACKAGE / folder)]))
