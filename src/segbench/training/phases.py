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
    """How many epochs the validation loss has not improved.

    Attributes:
        best: the lowest loss so far.
        waited: epochs since.
    """

    best: float = np.inf
    waited: int = 0

    def should_stop(self, params: EarlyStopping, loss: float, epochs: int) -> bool:
        """Take the validation loss of an epoch.

        Args:
            params: patience, least improvement and least number of epochs.
            loss: of the epoch.
            epochs: done in this phase.

        Returns:
            True if that was the phase's last epoch.
        """
        improved = loss < self.best - params.min_delta
        self.best = loss if improved else self.best
        self.waited = 0 if improved else self.waited + 1
        patience = params.patience
        return patience is not None and self.waited >= patience and epochs >= params.min_epochs
