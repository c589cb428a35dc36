"""The section `split`: how samples are divided, and what is taken for a leak."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from segbench.params.section import Section, Share


class Split(Section):
    """How samples are divided, and what is taken for a leak."""

    by: Literal["group", "random", "predefined"]
    """Whole groups, single images whatever their group, or as the dataset's publishers did."""
    stratify: bool
    """Give every split its share of each stratum too."""
    num_folds: PositiveInt
    """1: a single split. K: cross-validation, each sample is tested in one of K folds; name those
    to be run in `comparison.folds`."""
    val_share: Share
    test_share: Share | None
    """null where it follows: with folds (1 / num_folds) and predefined."""
    seed: NonNegativeInt
    sticky: bool
    """Leave samples that were split before where they are, and only place new ones."""
    on_leak: Literal["error", "warn"]
    """What a group, a duplicate or a near duplicate on both sides of a split does."""
    near_duplicate: Annotated[float, Field(gt=0.5, lt=1)]
    """Correlation of two thumbnails from which they show the same."""
    merge_duplicates: bool
    """Merge the groups of duplicates: equal or nearly equal samples and annotated copies."""

    @model_validator(mode="after")
    def _agree_on_the_test_share(self) -> Self:
        if self.by == "predefined" and self.num_folds > 1:
            raise ValueError("by: predefined has one fold; set num_folds: 1")
        if self.merge_duplicates and self.by != "group":
            raise ValueError(
                f"merge_duplicates makes groups, which by: {self.by} tears; set it false"
            )
        if self.sticky and self.by == "predefined":
            raise ValueError("sticky keeps what was drawn, by: predefined draws nothing; set false")
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
