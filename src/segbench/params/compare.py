"""The section `comparison`: candidates, repetitions, and the score that ranks them."""

import ast
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    model_validator,
)

from segbench.params.section import Section, Share

Alias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]


def _check_once(name: str, values: list[Any]) -> None:
    """Raise ValueError for a list that names something twice."""
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{name} name {twice} more than once; remove the repetition")


class Tuning(Section):
    """Learning rates that every run tries before it is trained, so that each candidate has its own.

    The rate with the best validation dice per image is chosen; the test set is not used.
    """

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=2)]
    """In place of `train.optimizer.learning_rate`."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Length of a trial as a share of `train.num_epochs`; rounded, at least one epoch."""

    @model_validator(mode="after")
    def _try_each_rate_once(self) -> Self:
        _check_once("learning_rates", self.learning_rates)
        return self


class Comparison(Section):
    """Candidates, repetitions, and what must hold of the outcome."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")]
    """What the report and MLflow call it."""
    candidates: Annotated[list[Alias], Field(min_length=1)]
    folds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    """[0], or folds of split.num_folds."""
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    tuning: Tuning | None
    """null: all candidates are trained at the learning rate of `train`."""
    metric: Literal[
        "dice", "iou", "precision", "recall", "accuracy", "boundary_iou", "surface_dice"
    ]
    """Ranks the candidates by its mean over validation images; the test set confirms or refutes."""
    confidence: Share
    num_resamples: PositiveInt
    require: list[str]
    """If one does not hold, the stage fails once the report is written; such as
    `dice_per_image >= 0.9` or `p < 0.05 or parameters < runner_up_parameters`. docs/verdict.md
    lists the names."""

    @model_validator(mode="after")
    def _name_everything_once(self) -> Self:
        for axis in ("candidates", "folds", "seeds"):
            _check_once(axis, getattr(self, axis))
        return self

    @model_validator(mode="after")
    def _require_what_can_be_read(self) -> Self:
        for text in self.require:
            try:
                ast.parse(text, mode="eval")
            except SyntaxError:
                raise ValueError(
                    f"require: '{text}' is no expression; write it like 'dice_per_image >= 0.9'"
                ) from None
        return self
