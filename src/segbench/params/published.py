"""A row of `comparison.published`: a score that somebody else published, to be set beside ours."""

import math
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    model_validator,
)

from segbench.params.section import Section

Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=300),
    AfterValidator(lambda text: " ".join(text.split())),
]
"""On one line."""
ROUNDING = 0.005
"""Published numbers have two decimals or more."""


class PublishedScore(Section):
    """A published score of the same dataset, and how it was measured."""

    name: Words
    """Of the method, as the report calls it."""
    metric: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$", max_length=64)]
    """As here: dice, iou, precision, recall, accuracy ... Another one is listed without ours."""
    averaging: Literal["per_image", "pooled", "batch"]
    """The mean over images, the ratio of the pixels of all images pooled, or the mean over batches
    of soft scores, as losses see them. One of dice and IoU that obey dice = 2 IoU / (1 + IoU) to
    the last digit are pooled: means over images do not."""
    mean: float
    """From 0 to 1."""
    sd: PositiveFloat | None
    """Standard deviation of single images, only with averaging: per_image. null: taken from
    ours."""
    images: PositiveInt
    """In its test set."""
    num_classes: Annotated[int, Field(ge=2)]
    """With the background."""
    split: Literal["random", "group", "predefined", "unknown"]
    """Images drawn at random, groups (patients, videos) kept together, or the dataset's own
    lists."""
    source: Words
    """Where it was published."""

    @model_validator(mode="after")
    def _be_a_score(self) -> Self:
        if not 0 <= self.mean <= 1:
            raise ValueError(
                f"mean: {self.mean:g} is not from 0 to 1; divide per cent by 100, and leave out "
                "what is no share, such as a distance"
            )
        if self.sd is None:
            return self
        if self.averaging != "per_image":
            raise ValueError(
                f"sd: single images have none in a score that is {self.averaging}; set null"
            )
        most = math.sqrt(self.mean * (1 - self.mean) * self.images / max(self.images - 1, 1))
        if self.sd > most + ROUNDING:
            raise ValueError(
                f"sd: {self.sd:g} is more than the {most:.3f} that {self.images} scores from 0 to "
                f"1 with a mean of {self.mean:g} can have; give that of single images, or null"
            )
        return self
