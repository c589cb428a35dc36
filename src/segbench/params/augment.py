"""The section `augment`: input size, patches and augmentation."""

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from segbench.params.section import Section

Multiple32 = Annotated[int, Field(ge=64, multiple_of=32)]


class Transform(BaseModel):
    """One albumentations transform by name; all further keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")

    transform: str


class Patches(Section):
    """Windows cut from images after the split and before resizing."""

    height: PositiveInt
    width: PositiveInt
    overlap: NonNegativeInt
    """Minimum overlap of neighbouring windows, in pixels; windows are spread evenly over the
    image."""

    @model_validator(mode="after")
    def _overlap_less_than_all(self) -> Self:
        if self.overlap >= min(self.height, self.width):
            raise ValueError("overlap must stay below height and width; lower it")
        return self


class Augment(Section):
    """Input size of the networks, and augmentation of training images."""

    height: Multiple32
    width: Multiple32
    patches: Patches | None
    """null: whole images."""
    copies: NonNegativeInt
    """Augmented copies stored for each training image."""
    online: bool
    """Augment every training image anew in each epoch."""
    seed: NonNegativeInt
    transforms: list[Transform]
    preview_samples: PositiveInt
