"""Score one trained model on validation and test."""

from pathlib import Path

from segbench import stage

args = stage.arguments(
    __doc__,
    params=Path,
    trained=Path,
    dataset=Path,
    arrays=Path,
    fold=int,
    out=Path,
    scores=Path,
)


def work() -> str:
    from segbench.evaluation.evaluate import evaluate
    from segbench.params import load_params

    return evaluate(
        load_params(args.params),
        args.trained,
        args.dataset,
        args.arrays,
        args.fold,
        args.out,
        args.scores,
    )


stage.run_tracked("evaluate", work)
