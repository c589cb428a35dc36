"""Whether results that are committed belong to the params and the code that are."""

from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from segbench.errors import InputError


def stale_stages(root: Path) -> list[str]:
    """Stages that `segbench repro` would run anew where all data are, which need not be here.

    What git holds is compared with dvc.lock: params, code, reports. Of data that are not here it is
    compared whether stages agree on their hash.

    Args:
        root: of the workspace.

    Raises:
        InputError: if DVC cannot say it.
    """
    try:
        with Repo(str(root)) as repo, repo.lock:
            stages = list(repo.index.stages)
            return [
                stage.addressing
                for stage in stages
                if stage.changed(allow_missing=True, upstream=stages)
            ]
    except DvcException as problem:
        raise InputError(f"DVC: {' '.join(str(problem).split())}") from None
