"""Phases of a training, and when one ends."""

from dataclasses import dataclass

import numpy as np

from segbench.params.train import EarlyStopping, Train


@dataclass(frozen=True)
class Phase:
    """A part of a training with an optimiser of its own; see `Train` and `FineTune`."""

    freeze_encoder: str
    num_epochs: int
    learning_rate: float
    early_stopping: EarlyStopping


def phases_of(params: Train) -> list[Phase]:
    """One phase, or two with fine-tuning."""
    rate = params.optimizer.learning_rate
    first = Phase(params.freeze_encoder, params.num_epochs, rate, params.early_stopping)
    then = params.fine_tune
    if then is None:
        return [first]
    second = Phase(then.freeze_encoder, then.num_epochs, then.learning_rate, then.early_stopping)
    return [first, second]


@dataclass
class Patience:
    """Early stopping: how long the validation loss has not become better."""

    best: float = np.inf
    waited: int = 0

    def ends(self, params: EarlyStopping, loss: float, epochs: int) -> bool:
        """Take the loss of an epoch; is it the phase's last, after so many?"""
        better = loss < self.best - params.min_delta
        self.best = loss if better else self.best
        self.waited = 0 if better else self.waited + 1
        patience = params.patience
        return patience is not None and self.waited >= patience and epochs >= params.min_epochs
