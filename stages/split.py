"""Divide the samples into train, val and test, whole groups together."""

from pathlib import Path

from segbench import stage
from segbench.params import load_params
from segbench.splitting import split

args = stage.arguments(__doc__, params=Path, dataset=Path, out=Path)
stage.run("split", lambda: split(args.dataset, load_params(args.params).split, args.out))
