"""Base class and helpers of all sections of params.yaml."""

import difflib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PACKAGE = Path(__file__).parent.parent
Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A section of params.yaml: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' (did you mean a, b?)' with up to three close matches; empty if there are none."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(near)}?)" if near else ""


def modules_of(folder: str) -> list[str]:
    """Names of the modules in a folder of this package, without importing them.

    A new file in such a folder is all it takes for params to accept its name.
    """
    return sorted(module.name for module in pkgutil.iter_modules([str(PACKAGE / folder)]))
