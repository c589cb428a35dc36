"""The sections `train` and `checkpoints`: the recipe, and when a training is saved."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from segbench.params.section import Section, Share


class Optimizer(Section):
    """Which optimiser, and its arguments."""

    name: str
    """Of torch, in lower case: adam, adamw, nadam, rmsprop, sgd, ..."""
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    args: dict[str, Any]
    """Further arguments of the torch optimiser, such as momentum."""


class Schedule(Section):
    """How the learning rate moves over the steps of a run."""

    name: Literal["constant", "cosine", "one_cycle", "plateau"]
    warmup_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of all steps over which the rate rises from near zero (cosine, one_cycle)."""
    factor: Share
    """Plateau: what the rate is multiplied by."""
    patience: NonNegativeInt
    """Plateau: epochs without a better validation loss that are let pass; the next one lowers the
    rate."""


class EarlyStopping(Section):
    """When a run ends before num_epochs."""

    patience: PositiveInt | None
    """Epochs without a better validation loss; null: never stop early."""
    min_delta: NonNegativeFloat
    min_epochs: NonNegativeInt
    """Epochs that are run whatever the loss does."""


class LossTerm(BaseModel):
    """A loss that is not taken as it comes: its weight; all further keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    weight: PositiveFloat


class GradientClip(Section):
    """What is done to gradients before each step."""

    by: Literal["global_norm", "parameter_norm", "value"]
    """Scale all gradients to one norm, each parameter's to a norm of its own (Keras's clipnorm), or
    cut single values."""
    limit: PositiveFloat


class FineTune(Section):
    """A second phase: from the weights that the first one kept, with a fresh optimiser."""

    freeze_encoder: str
    """As in `train`."""
    num_epochs: PositiveInt
    learning_rate: PositiveFloat
    early_stopping: EarlyStopping


class OnNonFinite(Section):
    """What happens when a loss or a gradient is not finite."""

    rollbacks: NonNegativeInt
    """How often a training may roll back to its last checkpoint and continue at a lower learning
    rate; after that it stops with an error. The report names trainings that did."""
    factor: Share
    """What the learning rate is multiplied by each time."""


class Train(Section):
    """The recipe: the same for every candidate."""

    num_epochs: PositiveInt
    steps_per_epoch: PositiveInt | None
    """null: as many as whole batches fit into the training split."""
    batch_size: PositiveInt
    loss: Annotated[dict[str, PositiveFloat | LossTerm], Field(min_length=1)]
    """Terms by name: dice, jaccard, tversky, lovasz, focal, mcc, and bce (one foreground class) or
    ce (several). A weight each, or `{weight: 1.0, smooth: 1.0}` with arguments of the loss of
    segmentation-models-pytorch; the smooth of dice is that of the formula with 2TP."""
    optimizer: Optimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    gradient_clip: GradientClip | None
    freeze_encoder: str
    """What stays as it came, batch norm's statistics included: `none`, `all`, or the name of the
    last layer of the encoder that does."""
    fine_tune: FineTune | None
    ema_decay: Share | None
    """Validate and keep the exponential moving average of the weights, with this decay a step;
    null: the weights themselves."""
    keep: Literal["best", "best_loss", "last"]
    """Weights of the epoch with the best validation dice, with the lowest validation loss, or of
    the last epoch."""
    on_non_finite: OnNonFinite


class Checkpointing(Section):
    """When, beside the end of each epoch, it is written where a training stands."""

    steps: PositiveInt | None
    minutes: PositiveFloat | None
