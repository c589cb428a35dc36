"""Bring the dataset into canonical form."""

from pathlib import Path

from segbench import stage
from segbench.datasets.download import download
from segbench.params import load_params

args = stage.arguments(__doc__, params=Path, out=Path)
stage.run("download", lambda: download(load_params(args.params).dataset, args.out))
