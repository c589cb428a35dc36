"""Fitting: the epochs and steps of one training, and where it stands after each.

The loop is written out, on Lightning Fabric, which brings devices, precision and processes: what it
takes to go on from any step is then a handful of values in one place, which `_save` writes.
"""

import copy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from segbench.arrays.batches import Batch, PlainBatches, TrainBatches, moved_ahead
from segbench.devices import is_out_of_memory
from segbench.errors import InputError
from segbench.models.freezing import freeze
from segbench.models.network import SegmentationNetwork
from segbench.params.train import Checkpointing, Train
from segbench.tracking.records import Record, metrics_line
from segbench.training.checkpoints import Checkpoints
from segbench.training.distributed import of_all
from segbench.training.losses import WeightedLoss
from segbench.training.optim import clip_gradients, make_optimizer, make_schedule
from segbench.training.phases import Patience, phases_of
from segbench.training.sync_batch_norm import synchronise_batch_norm
from segbench.training.validation import Validated, validate

T = TypeVar("T")
LOOK_AT_CLOCK = 8
"""After how many steps it is looked whether a checkpoint is due by the clock."""


class DivergedError(InputError):
    """A loss or a gradient is not finite, and the run may not go back any more.

    Attributes:
        found: what was seen, without the way out.
    """

    def __init__(self, found: str, way_out: str) -> None:
        super().__init__(f"{found}; {way_out}")
        self.found = found


class _RewindError(Exception):
    """A step that must not stand: back to the last checkpoint, with something changed."""


@dataclass(frozen=True)
class _Unchecked:
    """Whether a step was sound: its loss, and its gradient, once they have been copied."""

    finite: Tensor
    copied: torch.cuda.Event | None
    step: int
    rates: list[float]


class Fit:
    """A training and where it stands; `run` takes it from there to its end.

    Args:
        fabric: launched.
        network: is trained in place.
        params: the recipe.
        num_classes: with the background.
        threshold: probability from which a pixel is foreground.
        height, width: of the images.

    Attributes:
        history: a row for each epoch of all phases.
        kept: the row of the epoch whose weights are kept.
        shown_predictions: class ids (H, W) of one validation sample, for each epoch.
        lines: what the record has, or is about to have, of each epoch.
        rewinds: how often it went back and lowered the learning rate.
        rate_factor: what the learning rate of the schedule is multiplied by for it.
        pieces: how many a batch is cut into, to fit into memory.
        train_seconds: of the last epoch, without validation.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: SegmentationNetwork,
        params: Train,
        num_classes: int,
        threshold: float,
        height: int,
        width: int,
    ) -> None:
        self.fabric = fabric
        self.network = network.to(fabric.device)
        if fabric.world_size > 1:
            synchronise_batch_norm(self.network)
        self.params = params
        self.num_classes = num_classes
        self.threshold = threshold
        self.size = (height, width)
        self.loss = WeightedLoss(params.loss, network.blueprint.num_outputs)
        self.phases = phases_of(params)
        self.history: list[dict[str, float]] = []
        self.kept: dict[str, float] = {}
        self.shown_predictions: list[Tensor] = []
        self.lines: list[str] = []
        self.rewinds = 0
        self.rate_factor = 1.0
        self.pieces = 1
        self.train_seconds = 0.0
        self.epoch = 0
        self.step = 0
        self.total_steps = 0
        self._phase = 0
        self._phase_began = 0
        self._ended = False
        self._patience = Patience()
        self._kept_weights: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._unchecked: _Unchecked | None = None
        self._name = ""
        self._record: Record | None = None
        self._checkpoints: Checkpoints | None = None
        self._bar = tqdm(disable=True)

    def bind(
        self,
        name: str,
        record: Record | None,
        checkpoints: Checkpoints | None,
        often: Checkpointing,
    ) -> None:
        """Say what the progress bar calls it, where epochs are recorded, and where and how often
        checkpoints are written."""
        self._name = name
        self._record = record
        self._checkpoints = checkpoints
        self._often = often

    def run(
        self,
        batches: TrainBatches,
        val: PlainBatches,
        shown: int = 0,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Train to the end; the network then has the weights that are kept.

        Args:
            batches: to train on.
            val: to validate on after each epoch.
            shown: number of the validation sample whose predictions are kept.
            state: of the checkpoint to go on from.

        Raises:
            DivergedError: if it diverges, and may not go back or has too often.
            InputError: if it runs out of memory, likewise.
        """
        self._batches, self._val, self._shown = batches, val, shown
        total = len(batches) * sum(phase.num_epochs for phase in self.phases)
        shows = bool(self._name) and self.fabric.is_global_zero
        self._bar = tqdm(total=total, desc=self._name, unit="step", disable=None if shows else True)
        self._saved = time.monotonic()
        self.begin(self._phase)
        if state is not None:
            self._restore(state)
        elif self.params.on_non_finite.rewinds or self.params.on_out_of_memory == "accumulate":
            self._save()
        with self._bar:
            while True:
                try:
                    self._run_phases()
                    return
                except _RewindError as problem:
                    print(f"warning: {problem}", file=sys.stderr)

    def _run_phases(self) -> None:
        while True:
            while not self._ended:
                self.train_epoch()
                self.end_epoch(self.validate())
            self.network.load_state_dict(self._kept_weights)
            if self._phase + 1 == len(self.phases):
                return
            self.begin(self._phase + 1)

    def begin(self, phase: int) -> None:
        """Freeze what a phase freezes, and start its optimiser, its schedule and its average."""
        self._phase, self._phase_began, self._ended = phase, self.epoch, False
        plan = self.phases[phase]
        self._patience = Patience()
        self._frozen = freeze(self.network, plan.freeze_encoder, *self.size)
        self._averaged: AveragedModel | None = None
        if self.params.ema_decay is not None:
            average = get_ema_multi_avg_fn(self.params.ema_decay)  # type: ignore[no-untyped-call]
            # Batch norm's statistics too: the average of weights needs those that go with it.
            self._averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        rate = plan.learning_rate
        optimizer = make_optimizer(self.network, self.params.optimizer, rate)
        steps = plan.num_epochs * len(self._batches)
        self._schedule = make_schedule(optimizer, self.params.schedule, rate, steps)
        self._model, self._optimizer = self.fabric.setup(self.network, optimizer)

    @property
    def scored(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights, if there is one."""
        return self.network if self._averaged is None else self._averaged.module

    def train_epoch(self) -> None:
        self._train_mode()
        started, first = time.perf_counter(), self.step
        for batch in moved_ahead(self._batches.of(self.epoch, self.step), self.fabric.device):
            # Of the step and not of the process: a resumed run draws what an unbroken one draws.
            key = (self._batches.seed, self.total_steps, self.fabric.global_rank)
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
            self.train_step(batch)
            self.step += 1
            self.total_steps += 1
            self._bar.update()
            if self._is_due():
                self._check()
                self._save()
        self._check()
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        self.train_seconds = time.perf_counter() - started
        self._speed = (self.step - first) * self._batches.batch_size / self.train_seconds

    def _train_mode(self) -> None:
        """What is frozen stays in eval mode.

        A traced encoder has a graph for each mode and changes it when its mode changes. To and fro,
        so that it changes for certain.
        """
        self.network.train(False)
        self.network.train(True)
        for module in self._frozen:
            if isinstance(module, GraphModule):
                module.train(False)
            module.training = False

    def train_step(self, batch: Batch) -> None:
        images, masks = batch
        self._optimizer.zero_grad()
        loss = self._within_memory(lambda: self._backward(images, masks))
        self._check()  # of the step before, which the device has done by now
        learning = [
            parameter.grad for parameter in self.network.parameters() if parameter.grad is not None
        ]
        if self.fabric.strategy.precision.precision == "16-mixed":
            watched = loss  # its scaler looks for gradients that overflow, and leaves them out
        else:
            watched = torch.stack([loss, _all_in_one(learning).to(loss)])
        finite = torch.isfinite(watched).to("cpu", non_blocking=True)
        copied = torch.cuda.current_stream().record_event() if loss.is_cuda else None
        rates = [group["lr"] * self.rate_factor for group in self._optimizer.param_groups]
        self._unchecked = _Unchecked(finite, copied, self.step, rates)
        self._losses.append(loss)
        if self.params.gradient_clip is not None:
            self.fabric.strategy.precision.unscale_gradients(self._optimizer.optimizer)
            clip_gradients(self.network.parameters(), self.params.gradient_clip)
        with _rates(self._optimizer, rates):
            self._optimizer.step()
        if self._schedule is not None and not self._follows_loss:
            self._schedule.step()
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)

    def _backward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Gradients of a batch, which may be cut into pieces; its loss."""
        total = torch.zeros((), device=images.device)
        parts = list(zip(images.chunk(self.pieces), masks.chunk(self.pieces), strict=True))
        for image, mask in parts:
            logits = self._model(image)
            if self.fabric.world_size > 1:
                # A loss of a whole batch is not the mean of its parts' losses.
                logits, mask = of_all(logits), of_all(mask)
            loss = self.loss(logits, mask) * (len(image) / len(images))
            self.fabric.backward(loss)
            total += loss.detach()
        return total

    def _check(self) -> None:
        """Look whether the last step was sound.

        A step late on purpose: by then the device has done it, and nothing waits.
        """
        if self._unchecked is None:
            return
        last, self._unchecked = self._unchecked, None
        if last.copied is not None:
            last.copied.synchronize()
        if bool(last.finite.all()):
            return
        what = "a gradient" if last.finite.flatten()[0] else "the loss"
        ids = ", ".join(self._batches.ids(self.epoch, last.step))
        found = (
            f"training diverged: {what} is not finite at epoch {self.epoch}, step {last.step} "
            f"(samples {ids}; learning rate {last.rates[0]:.3g})"
        )
        policy = self.params.on_non_finite
        if self.rewinds == policy.rewinds:
            again = f" after going back {self.rewinds} times" if self.rewinds else ""
            raise DivergedError(
                f"{found}{again}",
                "lower train.optimizer.learning_rate, set train.gradient_clip, or let it go back "
                "and on at a lower rate: train.on_non_finite.rewinds",
            )
        rewinds, factor = self.rewinds + 1, self.rate_factor * policy.factor
        self._go_back()
        self.rewinds, self.rate_factor = rewinds, factor
        onward = f"going on from step {self.total_steps} at {factor:g} of the rate"
        raise _RewindError(f"{found}; {onward}")

    def _within_memory(self, work: Callable[[], T]) -> T:
        """Do it, or have batches cut into more pieces, if that may be."""
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Out of the handler, whose traceback holds on to the memory.
        raise self._make_room()

    def _make_room(self) -> InputError | _RewindError:
        size = self._batches.batch_size // self.fabric.world_size
        short = (
            f"out of memory on {self.fabric.device.type}: {-(-size // self.pieces)} images "
            f"{self.size[1]}x{self.size[0]} at a time"
        )
        allowed = self.params.on_out_of_memory == "accumulate" and self.fabric.world_size == 1
        if not allowed or self.pieces >= size:
            return InputError(
                f"{short} do not fit; try train.batch_size: {max(1, size // 2)}, or "
                "train.on_out_of_memory: accumulate on one device, or smaller images"
            )
        pieces = 2 * self.pieces
        self._go_back()
        self.pieces = pieces
        return _RewindError(f"{short} do not fit; going on with {pieces} pieces a batch")

    def _go_back(self) -> None:
        """To the last checkpoint."""
        state = self._checkpoints.newest() if self._checkpoints else None
        assert state is not None, "run() saves one at the start wherever going back is allowed"
        self._unchecked = None
        self._optimizer.zero_grad()
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        self._restore(state)

    def validate(self) -> Validated:
        """Score the network as it is now."""
        return self._within_memory(
            lambda: validate(
                self.fabric,
                self.scored,
                self.loss,
                self._val,
                self.threshold,
                self.num_classes,
                self._shown,
                self.pieces,
            )
        )

    def end_epoch(self, found: Validated) -> None:
        scores = found.scores
        row = {
            "epoch": self.epoch,
            "train_loss": float(torch.stack([loss.cpu() for loss in self._losses]).double().mean()),
            "val_loss": found.loss,
            "val_dice_per_image": scores["dice_per_image"],
            "val_iou_per_image": scores["iou_per_image"],
            "val_accuracy_micro": scores["accuracy_micro"],
            "learning_rate": self._optimizer.param_groups[0]["lr"] * self.rate_factor,
        }
        self.history.append(row)
        self.shown_predictions.append(found.shown)
        if not self.kept or self.params.keep == "last" or self._merit(row) > self._merit(self.kept):
            self.kept = row
            self._kept_weights = copy.deepcopy(self.scored.state_dict())
        self.epoch += 1
        self.step = 0
        self._losses.clear()
        plan, done = self.phases[self._phase], self.epoch - self._phase_began
        stops = self._patience.ends(plan.early_stopping, found.loss, done)
        self._ended = stops or done == plan.num_epochs
        if self._follows_loss:
            self._schedule.step(found.loss)
        if self._record is not None:
            values = {f"epoch/{name}": value for name, value in row.items() if name != "epoch"}
            values["images_per_second"] = self._speed
            # Of the whole epoch, also where the process trained only its last part.
            images = len(self._batches) * self._batches.batch_size
            values["train_seconds"] = images / self._speed
            self.lines.append(metrics_line(row["epoch"], values))
        # First the checkpoint, which holds the line: no epoch is ever recorded at two times.
        self._save()
        if self._record is not None:
            self._record.write(self.lines[-1])
        self._bar.set_postfix(val_dice=f"{row['val_dice_per_image']:.3f}")

    @property
    def _follows_loss(self) -> bool:
        return self.params.schedule.name == "plateau"

    def _merit(self, row: dict[str, float]) -> float:
        """What makes an epoch the best; without any score it is the worst."""
        merit = -row["val_loss"] if self.params.keep == "best_loss" else row["val_dice_per_image"]
        return -np.inf if np.isnan(merit) else merit

    def _is_due(self) -> bool:
        """Is a checkpoint to be written within the epoch?"""
        if self._checkpoints is None or self.step == len(self._batches):
            return False
        steps, minutes = self._often.steps, self._often.minutes
        if steps is not None and self.total_steps % steps == 0:
            return True
        if minutes is None or self.total_steps % LOOK_AT_CLOCK:
            return False
        # The same in all processes, whose clocks differ.
        return bool(self.fabric.broadcast(time.monotonic() - self._saved > 60 * minutes))

    # What `_save` writes is what `_restore` reads: everything that a next step depends on.
    PLAIN = (
        *("epoch", "step", "total_steps", "history", "kept", "lines", "shown_predictions"),
        *("rewinds", "rate_factor", "pieces", "_phase_began", "_ended", "_kept_weights", "_losses"),
    )

    def _save(self) -> None:
        if self._checkpoints is None or not self.fabric.is_global_zero:
            return
        state = {name: getattr(self, name) for name in self.PLAIN}
        state |= {
            "phase": self._phase,
            "patience": asdict(self._patience),
            **{name: part.state_dict() for name, part in self._parts().items()},
        }
        self._checkpoints.save(state, self.total_steps)
        self._saved = time.monotonic()

    def _restore(self, state: dict[str, Any]) -> None:
        self.begin(state["phase"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._patience = Patience(**state["patience"])
        for name in self.PLAIN:
            setattr(self, name, state[name])
        self._bar.update(self.total_steps - self._bar.n)

    def _parts(self) -> dict[str, Any]:
        parts = {
            "network": self.network,
            "optimizer": self._optimizer.optimizer,
            "schedule": self._schedule,
            "average": self._averaged,
            "precision": self.fabric.strategy.precision,
        }
        return {name: part for name, part in parts.items() if part is not None}


def _all_in_one(gradients: list[Tensor]) -> Tensor:
    """A number that is finite only if all gradients are."""
    if gradients[0].is_cuda:
        return nn.utils.get_total_norm(gradients)  # a few kernels for all of them
    return torch.stack([gradient.sum() for gradient in gradients]).sum()  # half the time of a norm


@contextmanager
def _rates(optimizer: Any, rates: list[float]) -> Iterator[None]:
    """Let an optimiser step at other rates than its schedule says."""
    planned = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    yield
    for group, rate in zip(optimizer.param_groups, planned, strict=True):
        group["lr"] = rate
