"""Fitting: the epochs of one training, by Lightning, and what each of them leaves behind."""

import copy
import logging
import time
import warnings
from dataclasses import dataclass
from typing import Any, Literal, Self

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping as EarlyStoppingCallback
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from segbench import metrics
from segbench.batches import Batch
from segbench.errors import InputError
from segbench.hardware import Resolved
from segbench.losses import WeightedLoss
from segbench.models import SegmentationNetwork, predict_classes
from segbench.models.freezing import freeze
from segbench.optimization import clip_gradients, make_optimizer, make_schedule
from segbench.params import EarlyStopping, Train
from segbench.records import Record
from segbench.samples import Pixels


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


def make_trainer(params: Train, phase: Phase, resolved: Resolved) -> pl.Trainer:
    """A Lightning trainer that loops, and leaves saving and logging to segbench."""
    callbacks: list[pl.Callback] = []
    stopping = phase.early_stopping
    if stopping.patience is not None:
        callbacks.append(_StopEarly(stopping.patience, stopping.min_delta, stopping.min_epochs))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # It counts workers of torch's loaders; ours is none of them.
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    # Lightning's own use of torch.
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    # It counts frozen layers, which are so on purpose.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training")
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(resolved.device, resolved.device),
        devices=1,
        precision=resolved.precision,  # type: ignore[arg-type]
        max_epochs=phase.num_epochs,
        deterministic=_determinism(params, resolved),
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


class _StopEarly(EarlyStoppingCallback):
    """Lightning's, not before `min_epochs`; a trainer's own would stop there for what is past."""

    def __init__(self, patience: int, min_delta: float, min_epochs: int) -> None:
        super().__init__(
            "val_loss", min_delta=min_delta, patience=patience, check_on_train_epoch_end=True
        )
        self.min_epochs = min_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.current_epoch + 1 < self.min_epochs:
            trainer.should_stop = False


def _determinism(params: Train, resolved: Resolved) -> bool | Literal["warn"]:
    # On CUDA some losses have no deterministic kernel; there a warning says which.
    return "warn" if params.deterministic and resolved.device == "cuda" else params.deterministic


class Fit(pl.LightningModule):
    """What Lightning needs to know of a training, and what an epoch leaves behind.

    Call `begin` before each phase.

    Args:
        network: is trained in place.
        params: the recipe.
        num_classes: with the background.
        threshold: probability from which a pixel is foreground.

    Attributes:
        history: a row for each epoch of all phases.
        kept: the row of the epoch whose weights are kept.
        shown_predictions: class ids (H, W) of one validation sample, for each epoch.
        train_seconds: of the last epoch, without validation.
    """

    def __init__(
        self, network: SegmentationNetwork, params: Train, num_classes: int, threshold: float
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.params = params
        self.num_classes = num_classes
        self.threshold = threshold
        self.loss = WeightedLoss(params.loss, network.blueprint.num_outputs)
        self.history: list[dict[str, float]] = []
        self.kept: dict[str, float] = {}
        self.shown_predictions: list[Pixels] = []
        self.train_seconds = 0.0
        self._averaged: AveragedModel | None = None
        self._kept_weights: dict[str, Tensor] = {}
        self._frozen: list[nn.Module] = []
        self._record: Record | None = None
        self._images_per_epoch = 0
        self._shown = 0
        self._seen = 0
        self._train_losses: list[Tensor] = []
        self._val_losses: list[tuple[Tensor, int]] = []
        self._counts: list[Tensor] = []
        self._correct: list[Tensor] = []

    def bind(self, record: Record, steps_per_epoch: int, batch_size: int, shown: int) -> None:
        """Say where epochs are recorded, how many steps of how many images one has, and which
        validation sample's predictions to keep."""
        self._record = record
        self._images_per_epoch = steps_per_epoch * batch_size
        self._shown = shown
        self._bar = tqdm(
            total=steps_per_epoch * sum(phase.num_epochs for phase in phases_of(self.params)),
            desc=record.run.name,
            unit="step",
            disable=None,
        )

    def close(self) -> None:
        """End what `bind` began."""
        self._bar.close()

    def begin(self, phase: Phase, height: int, width: int) -> None:
        """Freeze what a phase freezes, and start its optimiser, its schedule and its average.

        Args:
            phase: of the recipe.
            height, width: of the images.
        """
        self.phase = phase
        self._epochs_before = len(self.history)
        self._frozen = freeze(self.network, phase.freeze_encoder, height, width)
        if self.params.ema_decay is not None:
            average = get_ema_multi_avg_fn(self.params.ema_decay)  # type: ignore[no-untyped-call]
            # Batch norm's statistics too: the average of weights needs those that go with it.
            self._averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self.train()

    @property
    def epoch(self) -> int:
        """Number of the running epoch, counted through all phases."""
        return self._epochs_before + int(self.current_epoch)

    @property
    def scored(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights, if there is one."""
        return self.network if self._averaged is None else self._averaged.module

    def train(self, mode: bool = True) -> Self:
        """As ever, but what is frozen stays in eval mode.

        A traced encoder has a graph for each mode and changes it when its mode changes; Lightning
        restores modes behind its back. To and fro, so that it changes for certain.
        """
        super().train(not mode)
        super().train(mode)
        for module in self._frozen:
            if isinstance(module, GraphModule):
                module.train(False)
            module.training = False
        return self

    def restore_kept(self) -> None:
        """Go back to the weights that are kept."""
        self.network.load_state_dict(self._kept_weights)

    def on_train_epoch_start(self) -> None:
        self.train()
        self._train_losses.clear()
        self._epoch_started = time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, masks = batch
        loss: Tensor = self.loss(self.network(images), masks)
        self._train_losses.append(loss.detach())
        if self._record is not None:
            self._bar.update()
        return loss

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Lightning's own knows no norm of single parameters."""
        if self.params.gradient_clip is not None:
            clip_gradients(self.network.parameters(), self.params.gradient_clip)

    def on_train_batch_end(self, *_: Any) -> None:
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.train_seconds = time.perf_counter() - self._epoch_started
        self._seen = 0
        for collected in (self._val_losses, self._counts, self._correct):
            collected.clear()  # type: ignore[attr-defined]

    def validation_step(self, batch: Batch, index: int) -> None:
        images, masks = batch
        logits = self.scored(images)
        self._val_losses.append((self.loss(logits, masks), len(images)))
        pred = predict_classes(logits, self.threshold)
        self._counts.append(metrics.count(pred, masks, self.num_classes))
        self._correct.append(metrics.count_correct(pred, masks))
        if self._seen <= self._shown < self._seen + len(images):
            self.shown_predictions.append(pred[self._shown - self._seen].cpu().numpy())
        self._seen += len(images)

    def on_validation_epoch_end(self) -> None:
        losses = torch.stack([loss for loss, _ in self._val_losses]).cpu().double()
        sizes = torch.tensor([size for _, size in self._val_losses], dtype=torch.float64)
        self.log("val_loss", float((losses * sizes).sum() / sizes.sum()))

    def on_train_epoch_end(self) -> None:
        train_loss = float(torch.stack(self._train_losses).cpu().double().mean())
        if not np.isfinite(train_loss):
            raise InputError(
                f"training diverged: the loss of epoch {self.epoch} is {train_loss}; "
                "lower train.optimizer.learning_rate or set train.gradient_clip"
            )
        scores = metrics.summarise(torch.cat(self._counts).cpu(), torch.cat(self._correct).cpu())
        row = {
            "epoch": self.epoch,
            "train_loss": train_loss,
            "val_loss": float(self.trainer.callback_metrics["val_loss"]),
            "val_dice_per_image": scores["dice_per_image"],
            "val_iou_per_image": scores["iou_per_image"],
            "val_accuracy_micro": scores["accuracy_micro"],
            "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
        }
        self.history.append(row)
        if not self.kept or self.params.keep == "last" or self._merit(row) > self._merit(self.kept):
            self.kept = row
            self._kept_weights = copy.deepcopy(self.scored.state_dict())
        if self._record is not None:
            speed = {"images_per_second": self._images_per_epoch / self.train_seconds}
            values = {f"epoch/{name}": value for name, value in row.items() if name != "epoch"}
            self._record.log(self.epoch, {**values, **speed})
            self._bar.set_postfix(val_dice=f"{row['val_dice_per_image']:.3f}")

    def _merit(self, row: dict[str, float]) -> float:
        """What makes an epoch the best; without any score it is the worst."""
        merit = -row["val_loss"] if self.params.keep == "best_loss" else row["val_dice_per_image"]
        return -np.inf if np.isnan(merit) else merit

    def configure_optimizers(self) -> Any:
        rate = self.phase.learning_rate
        optimizer = make_optimizer(self.network, self.params.optimizer, rate)
        total = int(self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            **make_schedule(optimizer, self.params.schedule, rate, total),
        }
