"""One step of training: forward, backward, update."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segbench.arrays.batches import Batch
from segbench.models.freezing import freeze
from segbench.models.network import SegmentationNetwork
from segbench.params.train import Train
from segbench.training.cuda_graph import CapturedStep
from segbench.training.distributed import all_gather_cat
from segbench.training.losses import WeightedLoss
from segbench.training.optim import clip_gradients, make_optimizer, make_schedule
from segbench.training.phases import Phase
from segbench.training.step_checks import PendingCheck, finite_only_if_all


class Learner:
    """A network with the optimiser, schedule and weight average of one phase.

    Args:
        fabric: launched.
        network: on its device; trained in place, with the layers that the phase freezes frozen.
        recipe: the training's.
        phase: the current one.
        num_steps: of the phase.
        image_size: height and width of the images, in pixels.
        cuda_graphs: whether to replay steps as a CUDA graph.

    Attributes:
        network: the network in training.
        loss: function of logits and masks.
        follows_loss: whether the schedule steps on the validation loss after each epoch, instead of
            after each batch.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: SegmentationNetwork,
        recipe: Train,
        phase: Phase,
        num_steps: int,
        image_size: tuple[int, int],
        cuda_graphs: bool = False,
    ) -> None:
        self.network = network
        self.loss = WeightedLoss(recipe.loss, network.blueprint.num_outputs).to(fabric.device)
        self.follows_loss = recipe.schedule.name == "plateau"
        self._fabric = fabric
        self._recipe = recipe
        self._frozen = freeze(network, phase.freeze_encoder, *image_size)
        self._averaged: AveragedModel | None = None
        if recipe.ema_decay is not None:
            average = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
            # Average batch-norm statistics too, so that they match the averaged weights.
            self._averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        optimizer = make_optimizer(network, recipe.optimizer, phase.learning_rate)
        self._schedule = make_schedule(optimizer, recipe.schedule, phase.learning_rate, num_steps)
        self._model, self._optimizer = fabric.setup(network, optimizer)
        self._captured = None
        if cuda_graphs:
            self._captured = CapturedStep(self._optimizer.zero_grad)

    @property
    def eval_network(self) -> nn.Module:
        """The network to validate and keep: the averaged one, if there is one."""
        return self.network if self._averaged is None else self._averaged.module

    @property
    def learning_rate(self) -> float:
        """The schedule's current learning rate of the first parameter group."""
        return float(self._optimizer.param_groups[0]["lr"])

    def train_mode(self) -> None:
        """Put the network into training mode, except frozen modules, which stay in eval mode.

        A traced encoder has one graph per mode and switches only when its mode changes, so set eval
        mode first.
        """
        self.network.train(False)
        self.network.train(True)
        for module in self._frozen:
            if isinstance(module, GraphModule):
                module.train(False)
            module.training = False

    def backward(self, batch: Batch) -> Tensor:
        """Compute the gradients of a batch, and return its loss, a scalar on the device."""
        if self._captured is not None:
            return self._captured(self._backward, batch)
        self._optimizer.zero_grad()
        return self._backward(*batch)

    def _backward(self, images: Tensor, masks: Tensor) -> Tensor:
        logits = self._model(images)
        if self._fabric.world_size > 1:
            # Gather first: the loss of a batch is not the mean of its parts' losses.
            logits, masks = all_gather_cat(logits), all_gather_cat(masks)
        loss = self.loss(logits, masks)
        self._fabric.backward(loss)
        return loss.detach()

    def update(self, loss: Tensor, step: int, lr_scale: float) -> PendingCheck:
        """Take one step of the optimiser, the schedule and the weight average.

        Args:
            loss: from `backward`.
            step: index of the step in its epoch.
            lr_scale: factor on the schedule's learning rate.

        Returns:
            The pending check of loss and gradients.
        """
        gradients = [one.grad for one in self.network.parameters() if one.grad is not None]
        if self._fabric.strategy.precision.precision == "16-mixed":
            watched = loss  # the gradient scaler skips steps with overflowing gradients
        else:
            watched = torch.stack([loss, finite_only_if_all(gradients).to(loss)])
        rates = [group["lr"] * lr_scale for group in self._optimizer.param_groups]
        check = PendingCheck.start(watched, step, rates[0])
        if self._recipe.gradient_clip is not None:
            self._fabric.strategy.precision.unscale_gradients(self._optimizer.optimizer)
            clip_gradients(self.network.parameters(), self._recipe.gradient_clip)
        with _learning_rates(self._optimizer, rates):
            self._optimizer.step()
        if self._schedule is not None and not self.follows_loss:
            self._schedule.step()
        if self._averaged is not None:
            self._averaged.update_parameters(self.network)
        return check

    def end_epoch(self, val_loss: float) -> None:
        """Step a schedule that follows the validation loss."""
        if self.follows_loss:
            self._schedule.step(val_loss)

    def drop_gradients(self) -> None:
        """Free the gradients and their cached device memory."""
        self._optimizer.zero_grad()
        if self._fabric.device.type == "cuda":
            torch.cuda.empty_cache()

    def state_dict(self) -> dict[str, Any]:
        """State of all components, by name."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts = {
            "network": self.network,
            "optimizer": self._optimizer.optimizer,
            "schedule": self._schedule,
            "average": self._averaged,
            "precision": self._fabric.strategy.precision,
        }
        return {name: part for name, part in parts.items() if part is not None}


@contextmanager
def _learning_rates(optimizer: Any, rates: list[float]) -> Iterator[None]:
    """Temporarily override an optimiser's learning rates."""
    planned = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    yield
    for group, rate in zip(optimizer.param_groups, planned, strict=True):
        group["lr"] = rate
