"""The sections `train` and `checkpoints`: the recipe, and when and where to save."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from segbench.params.section import Section, Share, did_you_mean


class Optimizer(Section):
    """Which optimiser, and its arguments."""

    name: str
    """An optimiser of torch in lower case: adam, adamw, nadam, rmsprop, sgd, ..."""
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    args: dict[str, Any]
    """Further arguments of the torch optimiser, such as momentum."""


class Schedule(Section):
    """How the learning rate changes over a run."""

    name: Literal["constant", "cosine", "one_cycle", "plateau"]
    warmup_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of all steps spent warming up from near zero (cosine, one_cycle)."""
    factor: Share
    """Plateau: factor by which the rate is lowered."""
    patience: NonNegativeInt
    """Plateau: epochs without improvement of the validation loss to tolerate; the next one lowers
    the rate."""


class EarlyStopping(Section):
    """When a run ends before num_epochs."""

    patience: PositiveInt | None
    """Stop after this many epochs without improvement of the validation loss; null: never."""
    min_delta: NonNegativeFloat
    min_epochs: NonNegativeInt
    """Never stop before this many epochs."""


LOSSES: dict[str, Literal["any", "one", "several"]] = {
    **dict.fromkeys(("dice", "jaccard", "tversky", "lovasz", "focal"), "any"),
    **dict.fromkeys(("bce", "mcc"), "one"),
    "ce": "several",
}
"""Names of the losses, and whether each is for one class against the background."""


class LossTerm(BaseModel):
    """A loss with arguments: its weight; all further keys are passed to it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    weight: PositiveFloat


class GradientClip(Section):
    """Gradient clipping before each step."""

    by: Literal["global_norm", "parameter_norm", "value"]
    """Limit the norm of all gradients together, the norm of each parameter's gradient (Keras's
    clipnorm), or each value."""
    limit: PositiveFloat


class FineTune(Section):
    """A second phase, starting from the first phase's selected weights with a new optimiser."""

    freeze_encoder: str
    """As in `train`."""
    num_epochs: PositiveInt
    learning_rate: PositiveFloat
    early_stopping: EarlyStopping


class OnNonFinite(Section):
    """What happens when a loss or a gradient is not finite."""

    rollbacks: NonNegativeInt
    """Times that a training may roll back to its last checkpoint and continue at a lower learning
    rate before it stops with an error. The report names trainings that rolled back."""
    factor: Share
    """Factor applied to the learning rate at each rollback."""


class Train(Section):
    """The recipe: the same for every candidate."""

    num_epochs: PositiveInt
    steps_per_epoch: PositiveInt | None
    """null: one pass over the training split, in whole batches."""
    batch_size: PositiveInt
    oversample: Share | None
    """Images of a class that fewer than this share f of the training images hold come more often in
    an epoch, sqrt(oversample / f) times (repeat-factor sampling); null: all come once."""
    loss: Annotated[dict[str, PositiveFloat | LossTerm], Field(min_length=1)]
    """Terms by name: dice, jaccard, tversky, lovasz, focal, mcc, and bce (one foreground class) or
    ce (several). A weight each, or `{weight: 1.0, smooth: 1.0}` with arguments of the loss of
    segmentation-models-pytorch; the smooth of dice is that of the formula with 2TP. bce, ce and
    focal take `class_weights`: a number for each class, by id, or `auto`, from the
    training split: the mean number of pixels of a class over its own number."""
    optimizer: Optimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    gradient_clip: GradientClip | None
    freeze_encoder: str
    """Freeze the encoder, batch-norm statistics included: `none`, `all`, or up to and including the
    layer of this name."""
    fine_tune: FineTune | None
    ema_decay: Share | None
    """Decay per step of an exponential moving average of the weights, which is then validated and
    kept; null: no averaging."""
    keep: Literal["best", "best_loss", "last"]
    """Keep the weights of the epoch with the best validation dice, of the one with the lowest
    validation loss, or of the last epoch."""
    on_non_finite: OnNonFinite

    @model_validator(mode="after")
    def _know_every_loss(self) -> Self:
        for name in self.loss:
            if name not in LOSSES:
                raise ValueError(
                    f"loss: no loss '{name}'{did_you_mean(name, LOSSES)}; take from "
                    f"{', '.join(LOSSES)}"
                )
        return self


class Checkpointing(Section):
    """When to write a checkpoint within an epoch, since one is written after each epoch anyway, and
    where to keep them. Nothing here changes a result."""

    steps: PositiveInt | None
    minutes: PositiveFloat | None
    url: str | None
    """Where checkpoints are kept besides data/checkpoints, so that another machine goes on from
    them: a folder that is there already, or an address of fsspec (s3://bucket/folder, gs://...).
    One for each comparison. Credentials come from the environment. null: nowhere."""

    @field_validator("url")
    @classmethod
    def _name_a_place(cls, url: str | None) -> str | None:
        if url is None:
            return url
        if re.search(r"://[^@]*:[^@]*@", url) or re.search(r"^https?://[^/]*@|://.*\?", url):
            raise ValueError(
                "holds a password or a signature, which would end up in git; delete it from the "
                "address and set credentials in the environment"
            )
        if not re.match(r"/|[a-z0-9+]+://.", url):
            raise ValueError(
                "is neither a whole path nor an address; write it from the / on, or with "
                "its protocol, as in s3://bucket/folder"
            )
        return url
