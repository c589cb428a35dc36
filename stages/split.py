"""Divide the samples into train, val and test, and audit masks and split for what leaks."""

from pathlib import Path

from segbench import stage
from segbench.params import load_params
from segbench.splits.split import Paths, split_and_audit

names = [*Paths.__annotations__]
args = stage.arguments(__doc__, params=Path, dataset=Path, **dict.fromkeys(names, Path))
paths = Paths(**{name: getattr(args, name) for name in names})


def work() -> str:
    params = load_params(args.params)
    return split_and_audit(args.dataset, params.split, params.report.pictures, paths)


stage.run("split", work)
