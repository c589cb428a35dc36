"""The epochs and phases of one training.

A hand-written loop on Lightning Fabric, which handles devices, precision and processes. Training
can resume at any step from a single value, its `TrainingState`, which is the checkpoint.
"""

import copy
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric

from segbench.arrays.batches import Batch, prefetch_to_device
from segbench.models.network import SegmentationNetwork
from segbench.params.train import Checkpointing, Train
from segbench.progress import ProgressBar
from segbench.tracking.records import Record, metrics_line
from segbench.training.checkpoints import Checkpoints
from segbench.training.data import TrainingData
from segbench.training.learner import Learner
from segbench.training.phases import EarlyStopper, phases_of
from segbench.training.state import TrainingState
from segbench.training.step_checks import DivergedError, PendingCheck
from segbench.training.sync_batch_norm import synchronise_batch_norm
from segbench.training.validation import Validation, validate

CLOCK_STEPS = 8
"""Check the clock for a due checkpoint every this many steps."""


class _RolledBackError(Exception):
    """The training was rolled back to its latest checkpoint, with a lower learning rate."""


@dataclass(frozen=True)
class Progress:
    """Where a training reports its progress.

    Attributes:
        name: of what trains, for the progress bar; empty: no bar.
        record: receives a line per epoch; None: no record.
        checkpoints: where states are saved; None: nowhere.
        often: when to save within epochs; a state is saved after each epoch anyway.
    """

    name: str = ""
    record: Record | None = None
    checkpoints: Checkpoints | None = None
    often: Checkpointing | None = None


class Trainer:
    """A training; `run` runs or resumes it to its end.

    Args:
        fabric: launched.
        network: trained in place.
        recipe: the section `train`.
        data: training and validation data.
        threshold: minimum foreground probability in validation.
        progress: where to report.
        cuda_graphs: whether to replay steps as a CUDA graph.

    Attributes:
        state: the current state.
        learner: the learner of the current phase.
        train_seconds: of the last epoch, without validation.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: SegmentationNetwork,
        recipe: Train,
        data: TrainingData,
        threshold: float,
        progress: Progress | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        self.fabric = fabric
        self.network = network.to(fabric.device)
        if fabric.world_size > 1:
            synchronise_batch_norm(self.network)
        self.recipe = recipe
        self.data = data
        self.threshold = threshold
        self.progress = progress or Progress()
        self.cuda_graphs = cuda_graphs
        self.phases = phases_of(recipe)
        self.state = TrainingState()
        self.learner = self._make_learner(0)
        self.train_seconds = 0.0
        self._images_per_second = 0.0
        self._pending: PendingCheck | None = None
        self._saved = time.monotonic()
        self._bar = ProgressBar(
            self.progress.name,
            self._total_steps(),
            "steps",
            place=self._place,
            speed=("images", data.batches.batch_size),
            shown=bool(self.progress.name) and fabric.is_global_zero,
        )

    def run(self, state: TrainingState | None = None) -> None:
        """Train to the end; the network then has the weights of the selected epoch.

        Args:
            state: from the checkpoint to resume; None: start anew.

        Raises:
            DivergedError: if a loss or gradient is not finite, and no rollbacks are left.
        """
        if state is not None:
            self._restore(state)
        elif self.recipe.on_non_finite.rollbacks:
            self._save()
        with self._bar:
            while True:
                try:
                    self._run_phases()
                    return
                except _RolledBackError as problem:
                    print(f"warning: {problem}", file=sys.stderr)

    def _run_phases(self) -> None:
        while True:
            while not self.state.phase_ended:
                self.train_epoch()
                self.end_epoch(self.validate())
            self.network.load_state_dict(self.state.selected_weights)
            if self.state.phase + 1 == len(self.phases):
                return
            self.start_phase(self.state.phase + 1)

    def start_phase(self, phase: int) -> None:
        """Start a phase from the network's current weights."""
        self.state.phase, self.state.phase_start = phase, self.state.epoch
        self.state.phase_ended, self.state.stopper = False, EarlyStopper()
        self.learner = self._make_learner(phase)
        self._bar.total = self._total_steps()  # the last phase may have ended early

    def _make_learner(self, phase: int) -> Learner:
        plan, header = self.phases[phase], self.data.header
        num_steps = plan.num_epochs * len(self.data.batches)
        size = (header.height, header.width)
        return Learner(
            self.fabric, self.network, self.recipe, plan, num_steps, size, self.cuda_graphs
        )

    def train_epoch(self) -> None:
        """Do the remaining steps of an epoch."""
        self.learner.train_mode()
        state, batches = self.state, self.data.batches
        started, first = time.perf_counter(), state.step
        for batch in prefetch_to_device(batches.of(state.epoch, state.step), self.fabric.device):
            # Seeded by the step, so that a resumed run draws the same numbers as an uninterrupted
            # one.
            key = (batches.seed, state.total_steps, self.fabric.global_rank)
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
            self.train_step(batch)
            state.step += 1
            state.total_steps += 1
            self._bar.update()
            if self._checkpoint_due():
                self._check_last_step()
                self._save()
        self._check_last_step()
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        self.train_seconds = time.perf_counter() - started
        self._images_per_second = (state.step - first) * batches.batch_size / self.train_seconds

    def train_step(self, batch: Batch) -> None:
        """Do one step."""
        loss = self.learner.backward(batch)
        self._check_last_step()  # its check has arrived by now
        self._pending = self.learner.update(loss, self.state.step, self.state.lr_scale)
        self.state.losses.append(loss)

    def _check_last_step(self) -> None:
        """Raise if the previous step's loss or gradients were not finite.

        One step late, so that the host never waits for the device.

        Raises:
            DivergedError: if no rollbacks are left.
            _RolledBackError: if it was rolled back.
        """
        if self._pending is None:
            return
        last, self._pending = self._pending, None
        what = last.not_finite()
        if what is None:
            return
        state, policy = self.state, self.recipe.on_non_finite
        ids = ", ".join(self.data.batches.ids(state.epoch, last.step))
        found = (
            f"training diverged: {what} is not finite at epoch {state.epoch}, step {last.step} "
            f"(samples {ids}; learning rate {last.learning_rate:.3g})"
        )
        if state.rollbacks == policy.rollbacks:
            times = f" after {state.rollbacks} rollbacks" if state.rollbacks else ""
            raise DivergedError(
                f"{found}{times}",
                "lower train.optimizer.learning_rate, set train.gradient_clip, or let the training "
                "roll back and continue at a lower rate: train.on_non_finite.rollbacks",
            )
        rollbacks, lr_scale = state.rollbacks + 1, state.lr_scale * policy.factor
        self._restore_last()
        self.state.rollbacks, self.state.lr_scale = rollbacks, lr_scale
        raise _RolledBackError(
            f"{found}; rolled back to step {self.state.total_steps}, continuing at {lr_scale:g} of "
            "the learning rate"
        )

    def validate(self) -> Validation:
        """Validate the current network."""
        return validate(
            self.fabric,
            self.learner.eval_network,
            self.learner.loss,
            self.data.val,
            self.threshold,
            self.data.header.dataset.scheme.scored,
            self.data.preview_index,
            self._bar.remind,
        )

    def end_epoch(self, found: Validation) -> None:
        """Finish an epoch: history, weights to keep, early stopping, checkpoint, record."""
        state = self.state
        losses = torch.stack([loss.cpu() for loss in state.losses])
        row = {
            "epoch": state.epoch,
            "train_loss": float(losses.double().mean()),
            "val_loss": found.loss,
            "val_dice_per_image": found.scores["dice_per_image"],
            "val_iou_per_image": found.scores["iou_per_image"],
            "val_accuracy_micro": found.scores["accuracy_micro"],
            "learning_rate": self.learner.learning_rate * state.lr_scale,
        }
        state.history.append(row)
        state.preview_masks.append(found.preview)
        if self._is_better(row):
            state.selected_epoch = row
            state.selected_weights = copy.deepcopy(self.learner.eval_network.state_dict())
        state.epoch += 1
        state.step = 0
        state.losses.clear()
        phase, done = self.phases[state.phase], state.epoch - state.phase_start
        stops = state.stopper.should_stop(phase.early_stopping, found.loss, done)
        state.phase_ended = stops or done == phase.num_epochs
        self.learner.end_epoch(found.loss)
        record = self.progress.record
        if record is not None:
            values = {f"epoch/{name}": value for name, value in row.items() if name != "epoch"}
            values["images_per_second"] = self._images_per_second
            # For the whole epoch, even if this process trained only the end of it.
            values["train_seconds"] = self.data.batches.num_images / self._images_per_second
            state.lines.append(metrics_line(state.epoch - 1, values))
        # First the checkpoint, which holds the line: no epoch is recorded with two time stamps.
        self._save()
        if record is not None:
            record.write(state.lines[-1])
        self._bar.note(f"val dice {row['val_dice_per_image']:.3f} after epoch {state.epoch}")

    def _is_better(self, row: dict[str, float]) -> bool:
        """Whether this epoch's weights replace those kept so far."""
        best = self.state.selected_epoch
        if not best or self.recipe.keep == "last":
            return True
        return self._selection_score(row) > self._selection_score(best)

    def _selection_score(self, row: dict[str, float]) -> float:
        """The score that `keep` maximises; epochs without a score rank last."""
        score = -row["val_loss"] if self.recipe.keep == "best_loss" else row["val_dice_per_image"]
        return -np.inf if np.isnan(score) else score

    def _checkpoint_due(self) -> bool:
        """Whether to write a checkpoint within the epoch."""
        often, done = self.progress.often, self.state.total_steps
        if self.progress.checkpoints is None or often is None:
            return False
        if self.state.step == len(self.data.batches):
            return False
        if often.steps is not None and done % often.steps == 0:
            return True
        if often.minutes is None or done % CLOCK_STEPS:
            return False
        # Broadcast, since the clocks of the processes differ.
        due = time.monotonic() - self._saved > 60 * often.minutes
        return bool(self.fabric.broadcast(due))

    def _save(self) -> None:
        checkpoints = self.progress.checkpoints
        if checkpoints is None or not self.fabric.is_global_zero:
            return
        self.state.learner = self.learner.state_dict()
        checkpoints.save(self.state.to_checkpoint(), self.state.total_steps)
        self.state.learner = {}
        self._saved = time.monotonic()

    def _restore_last(self) -> None:
        """Restore the latest checkpoint."""
        checkpoints = self.progress.checkpoints
        saved = checkpoints.load_latest() if checkpoints else None
        assert saved is not None, "run() saves one at the start wherever rolling back is allowed"
        self._pending = None
        self.learner.drop_gradients()
        self._restore(TrainingState.from_checkpoint(saved))

    def _restore(self, state: TrainingState) -> None:
        self.learner = self._make_learner(state.phase)
        self.learner.load_state_dict(state.learner)
        self.state = state
        state.learner = {}
        self._bar.total = self._total_steps()
        self._bar.go_on_from(state.total_steps)

    def _epochs_left(self) -> int:
        """Epochs that are not over, if none of their phases ends early."""
        now, *later = self.phases[self.state.phase :]
        done = self.state.epoch - self.state.phase_start
        rest = 0 if self.state.phase_ended else now.num_epochs - done
        return rest + sum(phase.num_epochs for phase in later)

    def _total_steps(self) -> int:
        """Steps of the whole training, if no phase that is not over ends early."""
        left = self._epochs_left() * len(self.data.batches) - self.state.step
        return self.state.total_steps + left

    def _place(self) -> str:
        """Where the training is, in words."""
        step, steps = self.state.step, len(self.data.batches)
        doing = f"step {step} of {steps}" if step < steps else "validation"
        return f"epoch {self.state.epoch + 1} of {self.state.epoch + self._epochs_left()}, {doing}"
