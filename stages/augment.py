"""Resize and pack the splits, write the augmentation pipeline and its preview."""

from pathlib import Path

from segbench import stage
from segbench.arrays.augment import augment
from segbench.params import load_params

args = stage.arguments(__doc__, params=Path, dataset=Path, split=Path, out=Path, preview=Path)
stage.run(
    "augment",
    lambda: augment(
        args.dataset, args.split, load_params(args.params).augment, args.out, args.preview
    ),
)
