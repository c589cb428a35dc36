"""Phases of a training, and early stopping."""

from dataclasses import dataclass

import numpy as np

from segbench.params.train import EarlyStopping, Train


@dataclass(frozen=True)
class Phase:
    """A part of a training with its own optimiser; see `Train` and `FineTune`."""

    freeze_encoder: str
    num_epochs: int
    learning_rate: float
    early_stopping: EarlyStopping


def phases_of(recipe: Train) -> list[Phase]:
    """One phase, or two with fine-tuning."""
    rate = recipe.optimizer.learning_rate
    first = Phase(recipe.freeze_encoder, recipe.num_epochs, rate, recipe.early_stopping)
    then = recipe.fine_tune
    if then is None:
        return [first]
    second = Phase(then.freeze_encoder, then.num_epochs, then.learning_rate, then.early_stopping)
    return [first, second]


@dataclass
class EarlyStopper:
    """Early stopping on the validation loss.

    Attributes:
        best: the lowest loss so far.
        waited: epochs since it was reached.
    """

    best: float = np.inf
    waited: int = 0

    def should_stop(self, params: EarlyStopping, loss: float, epochs: int) -> bool:
        """Register the validation loss of an epoch.

        Args:
            params: patience, minimum improvement and minimum number of epochs.
            loss: of the epoch.
            epochs: finished in this phase.

        Returns:
            True if the phase should stop.
        """
        improved = loss < self.best - params.min_delta
        self.best = loss if improved else self.best
        self.waited = 0 if improved else self.waited + 1
        patience = params.patience
        return patience is not None and self.waited >= patience and epochs >= params.min_epochs
