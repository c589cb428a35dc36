"""The section `augment`: the size that networks see, patches, and how training images vary."""

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
    """Windows that images are cut into after the split, before they are resized."""

    height: PositiveInt
    width: PositiveInt
    overlap: NonNegativeInt
    """Pixels that neighbouring windows share at least; windows are spread evenly, so that they
    cover the image."""

    @model_validator(mode="after")
    def _overlap_less_than_all(self) -> Self:
        if self.overlap >= min(self.height, self.width):
            raise ValueError("overlap must stay below height and width; lower it")
        return self


class Augment(Section):
    """The size the networks see, and how training images are varied."""

    height: Multiple32
    width: Multiple32
    patches: Patches | None
    """null: whole images."""
    copies: NonNegativeInt
    """Augmented copies of each training image that are stored beside it."""
    online: bool
    """Draw new variations of every training image in every epoch."""
    seed: NonNegativeInt
    transforms: list[Transform]
    preview_samples: PositiveInt
