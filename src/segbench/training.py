"""Training: one candidate, one fold, one seed."""

import copy
import json
import logging
import time
import uuid
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor
from tqdm import tqdm

from segbench import metrics, provenance
from segbench.arrays import open_arrays, read_header
from segbench.augmentation import load_pipeline, vary
from segbench.batches import Batch, PlainBatches, TrainBatches
from segbench.errors import InputError
from segbench.hardware import Resolved, resolve
from segbench.losses import WeightedLoss
from segbench.models import (
    SegmentationNetwork,
    build_network,
    check_names,
    predict_classes,
    save_network,
)
from segbench.optimization import make_optimizer, make_schedule
from segbench.params import Params, Train
from segbench.records import DatasetInput, Record, Run, flatten, followed, now_ms
from segbench.writing import whole_file

WATCHED = "val_dice_per_image"
"""What says which epoch was the best."""


def train(
    params: Params,
    alias: str,
    fold: int,
    seed: int,
    arrays: Path,
    out: Path,
    history: Path,
    run_file: Path,
) -> str:
    """Fit one candidate and write its weights, its history and its record.

    Args:
        params: all of them, for the record.
        alias: of the candidate.
        fold, seed: which repetition.
        arrays: folder that the augment stage wrote; the test split is not opened.
        out: receives weights.safetensors and record/.
        history: a CSV file with a row an epoch; no times, so that it repeats.
        run_file: a JSON file with the id under which the tracking server knows the run.

    Returns:
        A line that says what was made.

    Raises:
        InputError: for names, weights or devices that do not exist, and a loss that diverges.
    """
    # All candidates, so that a misspelt last one is found before the first has trained.
    check_names(params.model, {name: params.candidates[name] for name in _listed(params, alias)})
    resolved = resolve(params.train)
    torch.set_num_threads(resolved.threads)
    header = read_header(arrays)
    run = _describe(params, alias, fold, seed, resolved, arrays)
    folder = out / "record"
    started = time.perf_counter()
    with followed(folder, run, params.tracking.max_wait_s), Record(folder, run) as record:
        pl.seed_everything(seed, verbose=False)
        network = build_network(params.model, params.candidates[alias], header.num_outputs)
        part = arrays / f"fold{fold}"
        pipeline = load_pipeline(arrays / "pipeline.yaml")
        fit = Fit(network, params.train, len(header.dataset.classes), params.evaluate.threshold)
        batches = TrainBatches(
            open_arrays(part / "train"),
            params.train.batch_size,
            partial(vary, pipeline) if params.augment.online else None,
            seed,
            lambda: fit.current_epoch,
        )
        fit.bind(record, len(batches), batches.batch_size)
        val = PlainBatches(open_arrays(part / "val"), params.train.batch_size)
        make_trainer(params.train, resolved, fit).fit(fit, batches, val)
        if params.train.keep == "best":
            network.load_state_dict(fit.best_weights)
        best = max(fit.history, key=_watched) if params.train.keep == "best" else fit.history[-1]
        record.tags["kept_epoch"] = str(best["epoch"])
        record.tags["epochs"] = str(len(fit.history))
        with whole_file(history) as file:
            pd.DataFrame(fit.history).to_csv(file, index=False, lineterminator="\n")
        with whole_file(run_file) as file:
            file.write_text(json.dumps({"run": run.id}) + "\n")
        with whole_file(out / "weights.safetensors") as file:
            save_network(network.cpu(), file)
    seconds = time.perf_counter() - started
    return (
        f"{run.name}: {len(fit.history)} epochs in {seconds:.0f} s, validation dice per image "
        f"{best[WATCHED]:.4f} at epoch {best['epoch']}, weights in {out / 'weights.safetensors'}"
    )


def _listed(params: Params, alias: str) -> list[str]:
    return list(dict.fromkeys([alias, *params.comparison.candidates]))


def _describe(
    params: Params, alias: str, fold: int, seed: int, resolved: Resolved, arrays: Path
) -> Run:
    """The run as the record opens with it: every choice that made it, and where it comes from."""
    header = read_header(arrays)
    chosen = params.model_dump(mode="json", exclude={"candidates", "comparison", "report"})
    chosen["train"] |= {name: getattr(resolved, name) for name in vars(resolved)}
    chosen |= {
        "candidate": {"alias": alias, **params.candidates[alias].model_dump(mode="json")},
        "fold": fold,
        "seed": seed,
    }
    for section in ("evaluate", "tracking"):  # do not shape a training
        del chosen[section]
    candidate = params.candidates[alias]
    counts = {
        split: len(open_arrays(arrays / f"fold{fold}" / split).images) for split in ("train", "val")
    }
    data = DatasetInput(
        header.dataset.name, header.digest[:16], f"{arrays}/fold{fold}", {"images": counts}
    )
    weights = {
        "weights": candidate.weights,
        "weights_sha256": candidate.weights_sha256 or "",
        "candidate": alias,
        "dataset_digest": header.digest,
    }
    return Run(
        id=uuid.uuid4().hex,
        part="train",
        experiment=header.dataset.name,
        name=f"{alias}-fold{fold}-seed{seed}",
        started_ms=now_ms(),
        params=flatten(chosen),
        tags={**provenance.tags(), **weights},
        inputs=[data],
    )


def _watched(row: dict[str, float]) -> float:
    """What makes an epoch the best; without any score it is the worst."""
    return -1.0 if np.isnan(row[WATCHED]) else row[WATCHED]


def make_trainer(params: Train, resolved: Resolved, fit: "Fit") -> pl.Trainer:
    """A Lightning trainer that loops, and leaves saving and logging to segbench."""
    callbacks: list[pl.Callback] = []
    if params.early_stopping.patience is not None:
        callbacks.append(
            EarlyStopping(
                "val_loss",
                patience=params.early_stopping.patience,
                min_delta=params.early_stopping.min_delta,
                check_on_train_epoch_end=True,
            )
        )
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # It counts workers of torch's loaders; ours is none of them.
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    # Lightning's own use of torch.
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(resolved.device, resolved.device),
        devices=1,
        precision=resolved.precision,  # type: ignore[arg-type]
        max_epochs=params.num_epochs,
        gradient_clip_val=params.gradient_clip_norm,
        deterministic=_determinism(params, resolved),
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _determinism(params: Train, resolved: Resolved) -> bool | Literal["warn"]:
    # On CUDA some losses have no deterministic kernel; there a warning says which.
    return "warn" if params.deterministic and resolved.device == "cuda" else params.deterministic


class Fit(pl.LightningModule):
    """What Lightning needs to know of a training, and what an epoch leaves behind.

    Args:
        network: is trained in place.
        params: the recipe.
        num_classes: with the background.
        threshold: probability from which a pixel is foreground.
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
        self.best_weights: dict[str, Tensor] = {}
        self.train_seconds = 0.0
        """Of the last epoch, without validation."""
        self._record: Record | None = None
        self._images_per_epoch = 0
        self._train_losses: list[Tensor] = []
        self._val_losses: list[tuple[Tensor, int]] = []
        self._counts: list[Tensor] = []

    def bind(self, record: Record, steps_per_epoch: int, batch_size: int) -> None:
        """Say where epochs are recorded, and how many steps of how many images one has."""
        self._record = record
        self._images_per_epoch = steps_per_epoch * batch_size
        self._bar = tqdm(
            total=steps_per_epoch * self.params.num_epochs,
            desc=record.run.name,
            unit="step",
            disable=None,
        )

    def on_train_epoch_start(self) -> None:
        self._train_losses.clear()
        self._epoch_started = time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, masks = batch
        loss: Tensor = self.loss(self.network(images), masks)
        self._train_losses.append(loss.detach())
        if self._record is not None:
            self._bar.update()
        return loss

    def on_validation_epoch_start(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.train_seconds = time.perf_counter() - self._epoch_started
        self._val_losses.clear()
        self._counts.clear()

    def validation_step(self, batch: Batch, index: int) -> None:
        images, masks = batch
        logits = self.network(images)
        self._val_losses.append((self.loss(logits, masks), len(images)))
        pred = predict_classes(logits, self.threshold)
        self._counts.append(metrics.count(pred, masks, self.num_classes))

    def on_validation_epoch_end(self) -> None:
        losses = torch.stack([loss for loss, _ in self._val_losses]).cpu().double()
        sizes = torch.tensor([size for _, size in self._val_losses], dtype=torch.float64)
        self.log("val_loss", float((losses * sizes).sum() / sizes.sum()))

    def on_train_epoch_end(self) -> None:
        train_loss = float(torch.stack(self._train_losses).cpu().double().mean())
        if not np.isfinite(train_loss):
            raise InputError(
                f"training diverged: the loss of epoch {self.current_epoch} is {train_loss}; "
                "lower train.optimizer.learning_rate or set train.gradient_clip_norm"
            )
        scores = metrics.summarise(torch.cat(self._counts).cpu())
        row = {
            "epoch": self.current_epoch,
            "train_loss": train_loss,
            "val_loss": float(self.trainer.callback_metrics["val_loss"]),
            WATCHED: scores["dice_per_image"],
            "val_iou_per_image": scores["iou_per_image"],
            "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
        }
        self.history.append(row)
        best = max(self.history, key=_watched)
        if self.params.keep == "best" and best is row:
            self.best_weights = copy.deepcopy(self.network.state_dict())
        if self._record is not None:
            speed = {"images_per_second": self._images_per_epoch / self.train_seconds}
            values = {f"epoch/{name}": value for name, value in row.items() if name != "epoch"}
            self._record.log(self.current_epoch, {**values, **speed})
            self._bar.set_postfix(val_dice=f"{row[WATCHED]:.3f}")

    def on_fit_end(self) -> None:
        if self._record is not None:
            self._bar.close()

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.network, self.params.optimizer)
        total = int(self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            **make_schedule(optimizer, self.params.schedule, self.params.optimizer, total),
        }
