"""What training a candidate took, from what its runs left."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segbench.evaluation.results import RunResult


def images_to_reach(history: pd.DataFrame, share: float, images_per_epoch: int) -> int | None:
    """Images seen until a training was about as good as it got.

    Args:
        history: a row for each epoch, with validation's val_dice_per_image.
        share: of its best value, in (0, 1], that has to be reached.
        images_per_epoch: images that an epoch went through.

    Returns:
        The images of all epochs up to the first that reached it; None where no epoch has a score.
    """
    assert 0 < share <= 1
    scores = history["val_dice_per_image"].to_numpy(float)
    if np.isnan(scores).all():
        return None
    first = int(np.argmax(scores >= share * np.nanmax(scores)))
    return (first + 1) * images_per_epoch


def training_seconds(record: Path) -> float | None:
    """Seconds that a training's steps took, without validation and start-up, as its record says.

    Of the epochs that stand: what was done twice after an interruption counts once.

    Args:
        record: folder that the train stage wrote.

    Returns:
        None where there is no record, as in a clone that has not pulled it.
    """
    lines = record / "metrics.jsonl"
    if not lines.exists():
        return None
    epochs = [json.loads(line)["values"] for line in lines.read_text().splitlines()]
    return sum(epoch["train_seconds"] for epoch in epochs)


@dataclass(frozen=True)
class TrainingEffort:
    """What training a candidate took, means over its runs.

    Attributes:
        seconds: of its steps, without validation and start-up; None where records are not at hand.
        images: that it saw until it was about as good as it got, see `images_to_reach`; None where
            no epoch has a score.
        tuning_images: that its trials of learning rates saw before.
    """

    seconds: float | None
    images: float | None
    tuning_images: float


NEAR = 0.95
"""Share of the best validation score that counts as about as good."""


def training_effort(runs: Sequence[RunResult], trained: Path) -> TrainingEffort:
    """What training a candidate took.

    Args:
        runs: of this candidate.
        trained: the folder in which each run's training has its own.
    """
    tuning = [
        run.trained["images_per_epoch"] * sum(trial["epochs"] for trial in run.trained["tuning"])
        for run in runs
    ]
    return TrainingEffort(
        _mean([training_seconds(trained / run.name / "record") for run in runs]),
        _mean(
            [images_to_reach(run.history, NEAR, run.trained["images_per_epoch"]) for run in runs]
        ),
        float(np.mean(tuning)),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if len(there) == len(values) else None
