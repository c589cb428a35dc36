"""The section `evaluate`: how a finished model is scored."""

from typing import Annotated, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from segbench.params.section import Section, did_you_mean, modules_of

Probability = Annotated[float, Field(ge=0, le=1)]


class Choose(Section):
    """Post-processing options to try on validation; the best is scored on test beside the default
    rule."""

    threshold: bool
    """Try all 256 thresholds; only for one class against the background."""
    min_sizes: list[PositiveInt]
    """Minimum component sizes to try, in pixels at the network's size; smaller components become
    background; only for datasets that have one."""
    largest: bool
    """Try keeping only the largest component of each class."""
    flips: bool
    """Also try the opposite of `evaluate.flips`; the exported model uses whichever is chosen."""


class Evaluate(Section):
    """How a finished model is scored."""

    threshold: Probability
    """Minimum foreground probability; only for one class against the background."""
    batch_size: PositiveInt
    flips: bool
    """Average logits over an image and its three mirror images, also in the exported model."""
    choose: Choose
    tolerance: Annotated[float, Field(ge=0)]
    """Distance up to which outlines agree, for the surface dice: in pixels; at an image's own size
    in mm if `dataset.spacing` is given."""
    extra_metrics: list[str]
    """Optional metrics by module name in `metrics/optional`: brier (Brier score), calibration
    (expected calibration error), cldice (centre lines of thin structures), objects (detection F1
    and panoptic quality, by size), pranet (means over thresholds, as in PraNet), surface_distance
    (surface dice and mean distance by length) and v_rand (Rand score of ISBI 2012)."""
    num_triptychs: NonNegativeInt
    """Evenly spaced test images drawn with truth and prediction, one file each."""

    @model_validator(mode="after")
    def _know_every_metric(self) -> Self:
        known = modules_of("metrics/optional")
        for name in self.extra_metrics:
            if name not in known:
                raise ValueError(
                    f"extra_metrics: no metric '{name}'{did_you_mean(name, known)}; take from "
                    f"{', '.join(known)}"
                )
        return self
