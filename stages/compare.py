"""Rank the candidates and write the report."""

from pathlib import Path

from segbench import stage
from segbench.evaluation.results import Paths

names = [*Paths.__annotations__]
args = stage.arguments(__doc__, params=Path, **dict.fromkeys(names, Path))


def work() -> str:
    from segbench.comparison.compare import compare
    from segbench.params import load_params

    return compare(load_params(args.params), Paths(**{name: getattr(args, name) for name in names}))


stage.run_tracked("compare", work)
