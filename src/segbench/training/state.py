"""Where a training stands: everything that its next step depends on."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from torch import Tensor

from segbench.training.phases import EarlyStopper


@dataclass
class TrainingState:
    """What a checkpoint holds, field by field: a field that is added here is saved and restored.

    Attributes:
        phase: index of the phase that runs.
        phase_start: epoch in which it began.
        phase_ended: is it over?
        epoch, step: the next to be done; steps count from the epoch's beginning.
        total_steps: done since the training began.
        losses: of the steps of this epoch.
        history: a row for each finished epoch of all phases.
        lines: what the record has, or is about to have, of each of them.
        preview_masks: class ids (H, W) predicted for one validation sample after each of them.
        selected_epoch: the row of the epoch whose weights are kept; empty before the first.
        selected_weights: those weights.
        stopper: how long the validation loss has not improved.
        rollbacks: how often the training went back to a checkpoint, since a step was not finite.
        lr_scale: what the schedule's learning rate is multiplied by since.
        learner: state of network, optimiser, schedule, average and gradient scaler.
    """

    phase: int = 0
    phase_start: int = 0
    phase_ended: bool = False
    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    losses: list[Tensor] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    preview_masks: list[Tensor] = field(default_factory=list)
    selected_epoch: dict[str, float] = field(default_factory=dict)
    selected_weights: dict[str, Tensor] = field(default_factory=dict)
    stopper: EarlyStopper = field(default_factory=EarlyStopper)
    rollbacks: int = 0
    lr_scale: float = 1.0
    learner: dict[str, Any] = field(default_factory=dict)

    def to_checkpoint(self) -> dict[str, Any]:
        """As plain values and tensors, which `torch.load(weights_only=True)` reads back."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**values, "stopper": asdict(self.stopper)}

    @classmethod
    def from_checkpoint(cls, saved: dict[str, Any]) -> Self:
        """The state that `to_checkpoint` gave."""
        return cls(**{**saved, "stopper": EarlyStopper(**saved["stopper"])})
