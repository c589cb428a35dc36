"""Score one trained model on validation and test."""

from pathlib import Path

from segbench import stage
from segbench.evaluation import evaluate
from segbench.params import load_params

args = stage.arguments(
    __doc__, params=Path, trained=Path, arrays=Path, fold=int, out=Path, scores=Path
)
stage.run(
    "evaluate",
    lambda: evaluate(
        load_params(args.params), args.trained, args.arrays, args.fold, args.out, args.scores
    ),
)
