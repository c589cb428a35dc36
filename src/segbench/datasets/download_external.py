"""The stage download_external: an external test set, brought into canonical form."""

import re
from pathlib import Path

from segbench.datasets.download import bring
from segbench.errors import InputError
from segbench.params import Params


def download_external(params: Params, external: str, out: Path) -> str:
    """Bring an external set into canonical form in the folder `out`, as `download` does.

    A class that none of its masks holds is no mistake there.

    Args:
        params: all of them.
        external: name of the set.
        out: folder of the set.

    Returns:
        A line that says what was made.

    Raises:
        InputError: for anything wrong with its files.
    """
    try:
        said = bring(params.comparison.external[external], out, lacks_classes=True)
    except InputError as problem:
        said = _with_keys_of(external, str(problem))
        raise InputError(f"comparison.external.{external}: {said}") from None
    return _with_keys_of(external, said)


def _with_keys_of(external: str, text: str) -> str:
    """A text that names keys of the section `dataset`, with those of an external set instead."""
    return re.sub(r"\bdataset\.(?=[a-z_]+\b)", f"comparison.external.{external}.", text)
