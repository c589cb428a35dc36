"""Class ids: how many there are, and which of them is the background. Nothing else decides it."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy takes long to import, and params need none of it
    import numpy as np
    from numpy.typing import NDArray

IGNORE = 255
"""Class id of pixels that neither train nor count."""
CLASS_DICE = "dice_class_"
"""Before the name of a class: its dice, as a column of the rows of images and as a key."""


@dataclass(frozen=True)
class LabelScheme:
    """The class ids of a dataset.

    Attributes:
        num_classes: with the background; ids are 0 to num_classes - 1.
        background: the id of what is no object, which has no score; None: every class has one.
    """

    num_classes: int
    background: int | None

    @property
    def scored(self) -> tuple[int, ...]:
        """Ids of the F classes that have scores, ascending: the foreground."""
        return tuple(at for at in range(self.num_classes) if at != self.background)

    @property
    def is_binary(self) -> bool:
        """Whether it is one class against the background: one logit, and a threshold."""
        return self.num_classes == 2 and self.background is not None

    @property
    def num_outputs(self) -> int:
        """Channels of the logits: one if it is binary, else one for each class."""
        return 1 if self.is_binary else self.num_classes

    def is_foreground(self, mask: "NDArray[np.uint8]") -> "NDArray[np.bool_]":
        """Whether pixels, of masks of any shape, are of a class that has scores."""
        found = mask != IGNORE
        return found if self.background is None else found & (mask != self.background)


def class_keys(classes: tuple[str, ...]) -> list[str]:
    """Names of classes as parts of metric names, each its own.

    Args:
        classes: names by class id. Letters and digits of any script stay; where only other
            characters tell two names apart, the class id follows.
    """
    keys = [re.sub(r"[^\w.-]", "_", name) for name in classes]
    while len(set(keys)) < len(keys):
        keys = [f"{key}_{at}" if keys.count(key) > 1 else key for at, key in enumerate(keys)]
    return keys
