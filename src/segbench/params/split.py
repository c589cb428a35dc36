"""The section `split`: how samples are divided, and what counts as a leak."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from segbench.params.section import Section, Share

MOST_LIKENESS = 0.95
"""A copy that was cropped or compressed is hardly more alike."""


class Split(Section):
    """How samples are divided, and what counts as a leak."""

    by: Literal["group", "random", "predefined"]
    """Keep groups together, split single images regardless of group, or use the published split."""
    stratify: bool
    """Balance the strata across splits."""
    num_folds: PositiveInt
    """1: a single split. K: cross-validation, where each sample is in the test split of one of K
    folds; `comparison.folds` names those to run."""
    val_share: Share
    test_share: Share | None
    """null where it is implied: with folds (1 / num_folds) and by: predefined."""
    seed: NonNegativeInt
    sticky: bool
    """Keep earlier assignments, and assign only new samples."""
    on_leak: Literal["error", "warn"]
    """What to do if a group, duplicates or near duplicates cross splits: stop or warn."""
    near_duplicate: Annotated[float, Field(gt=0.5, lt=1)]
    """Likeness from which two images are near duplicates: the correlation of their detail, one laid
    upon the other, without what all images have in common. Between groups more is asked for where
    different ones are so alike that some would reach it by chance. 0.95: copies only."""
    merge_duplicates: bool
    """Merge the groups of duplicates, near duplicates and annotated copies."""

    @field_validator("near_duplicate")
    @classmethod
    def _is_of_detail(cls, value: float) -> float:
        if value > MOST_LIKENESS:
            raise ValueError(
                f"{value:g} is a correlation of thumbnails, which it no longer is; it is one of "
                f"detail now: set 0.75, or at most {MOST_LIKENESS:g}, which finds copies only"
            )
        return value

    @model_validator(mode="after")
    def _agree_on_the_test_share(self) -> Self:
        if self.by == "predefined" and self.num_folds > 1:
            raise ValueError("by: predefined has one fold; set num_folds: 1")
        if self.merge_duplicates and self.by != "group":
            raise ValueError(
                f"merge_duplicates merges groups, but by: {self.by} ignores them; set it false"
            )
        if self.sticky and self.by == "predefined":
            raise ValueError("sticky has no effect with by: predefined; set it false")
        follows = self.by == "predefined" or self.num_folds > 1
        if follows != (self.test_share is None):
            need = "null, since it follows" if follows else "a share, such as 0.1"
            raise ValueError(
                f"test_share must be {need} (by: {self.by}, num_folds: {self.num_folds})"
            )
        test = self.test_share or (0 if self.by == "predefined" else 1 / self.num_folds)
        if self.val_share + test >= 1:
            raise ValueError(
                f"val_share {self.val_share:g} and a test share of {test:g} leave nothing to train "
                "on; they must stay below 1 together, lower one of them"
            )
        return self
