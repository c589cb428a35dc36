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
    """What is tried on validation, to make better masks of the same network; what is best there
    is scored on test beside the plain masks."""

    threshold: bool
    """All of 256 thresholds, for datasets of one foreground class."""
    min_sizes: list[PositiveInt]
    """Components of fewer pixels (at the network's size) become background: sizes to try."""
    largest: bool
    """Keep the largest component of each class alone."""
    flips: bool
    """The other of `evaluate.flips`; if it is chosen, the exported model has it."""


class Evaluate(Section):
    """How a finished model is scored."""

    threshold: Probability
    """Probability from which a pixel is foreground, for datasets of one foreground class."""
    batch_size: PositiveInt
    flips: bool
    """Average the logits of an image and its three mirror images, in the exported model too."""
    choose: Choose
    tolerance: Annotated[float, Field(ge=0)]
    """Pixels that outlines may lie apart, for the surface dice."""
    extra_metrics: list[str]
    """What is scored besides: expected calibration error; mean over thresholds as PraNet has it;
    the Rand score of ISBI 2012."""
    num_triptychs: NonNegativeInt
    """Test images, evenly picked, that are drawn with truth and prediction, a file each."""

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
