"""Fit one candidate with one seed on one fold."""

from pathlib import Path

from segbench import stage

args = stage.arguments(
    __doc__,
    params=Path,
    candidate=str,
    fold=int,
    seed=int,
    arrays=Path,
    out=Path,
    history=Path,
    run=Path,
    checkpoints=Path,
)


def work() -> str:
    from segbench.params import load_params
    from segbench.training.train import train

    return train(
        load_params(args.params),
        args.candidate,
        args.fold,
        args.seed,
        args.arrays,
        args.out,
        args.history,
        args.run,
        args.checkpoints,
    )


stage.run_tracked("train", work)
