"""The state of a training: everything that its next step depends on."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from torch import Tensor

from segbench.training.phases import EarlyStopper


@dataclass
class TrainingState:
    """Contents of a checkpoint; every field here is saved and restored.

    Attributes:
        phase: index of the current phase.
        phase_start: epoch in which it started.
        phase_ended: whether it has ended.
        epoch, step: the next ones; steps count from the start of the epoch.
        total_steps: done since the start of the training.
        losses: of the finished steps of this epoch.
        history: a row per finished epoch, over all phases.
        lines: their lines in the record, the last of which may not have been written yet.
        preview_masks: class ids (H, W) predicted for the preview sample after each epoch.
        selected_epoch: row of the epoch whose weights are kept; empty before the first.
        selected_weights: its weights.
        stopper: early stopping.
        rollbacks: number of rollbacks after steps that were not finite.
        lr_scale: factor on the schedule's learning rate, lowered by each rollback.
        learner: state of network, optimiser, schedule, weight average and gradient scaler.
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
        """Plain values and tensors, readable by `torch.load(weights_only=True)`."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**values, "stopper": asdict(self.stopper)}

    @classmethod
    def from_checkpoint(cls, saved: dict[str, Any]) -> Self:
        """Restore a state from the result of `to_checkpoint`."""
        return cls(**{**saved, "stopper": EarlyStopper(**saved["stopper"])})
