"""Names of metrics that can rank: what is known of them before anything is computed."""

from collections.abc import Sequence
from typing import NamedTuple

VARIANTS = ("", "_chosen", "_original", "_original_chosen")
"""Variants of a mask, as endings of names: by the default rule or by the one chosen on validation;
at the network's size or at the image's original size."""
OF_MASKS = (
    *("dice", "iou", "precision", "recall", "specificity", "accuracy"),
    *("boundary_iou", "hausdorff95", "surface_dice"),
)
"""Means over images, of masks in each variant."""
OF_PROBABILITIES = ("average_precision",)
"""Means over images that no mask is needed for."""
POOLED = tuple(f"{name}_micro" for name in OF_MASKS[:6])
"""Ratios of the pixels of all images."""
MEANS_OF_CLASSES = {
    "dice": "dice_macro",
    "iou": "mean_iou",
    "precision": "precision_macro",
    "recall": "mean_class_accuracy",
    "specificity": "specificity_macro",
}
"""Means over classes of such ratios, by what is averaged."""
BY_CLASS = {"dice_class_": "dice", "iou_class_": "iou", "recall_class_": "recall"}
"""Before the name of a class: its dice, a mean over images, and its ratios of all pixels."""
WEIGHABLE = OF_MASKS[:5]
"""Means over images and their classes, of which some may weigh more."""
WEIGHTED = "_weighted"
"""Behind the name of such a mean in reports, if `comparison.class_weights` has weights."""
DISTANCES = ("hausdorff95",)
"""Metrics of masks that lie in 0 to 1 no more than their differences do."""


class MetricName(NamedTuple):
    """A name in its parts.

    Attributes:
        stem: what is measured.
        ending: of `VARIANTS`, the mask that it is measured on.
    """

    stem: str
    ending: str

    @property
    def by_class(self) -> tuple[str, str] | None:
        """The score and the class, of a metric of one class."""
        for prefix, score in BY_CLASS.items():
            if self.stem.startswith(prefix):
                return score, self.stem.removeprefix(prefix)
        return None

    @property
    def weighted(self) -> str | None:
        """The score whose weighted mean of classes it is."""
        score = self.stem.removesuffix(WEIGHTED)
        return score if score != self.stem and score in WEIGHABLE else None

    @property
    def needs_classes(self) -> bool:
        """Whether there is none with a single scored class."""
        of_classes = self.by_class or self.weighted or self.stem in MEANS_OF_CLASSES.values()
        return bool(of_classes)

    @property
    def is_pooled(self) -> bool:
        """Whether it is made of the pixels of all images together."""
        of_pixels = not (self.weighted or self.stem.startswith("dice_class_"))
        return self.stem in POOLED or (self.needs_classes and of_pixels)

    @property
    def has_variants(self) -> bool:
        """Whether it is measured on masks of each variant."""
        return self.stem in (*OF_MASKS, *POOLED) or self.needs_classes

    @property
    def is_known(self) -> bool:
        """Whether it is there whatever `evaluate.extra_metrics` names."""
        return self.has_variants or (self.stem in OF_PROBABILITIES and not self.ending)

    @property
    def is_a_share(self) -> bool:
        """Whether it is known to lie in 0 to 1."""
        return self.is_known and self.stem not in DISTANCES


def parts_of(name: str, classes: Sequence[str] = ()) -> MetricName:
    """Stem and ending of a name.

    Args:
        name: such as `dice_micro_original`.
        classes: keys of the dataset's classes, which may end like a variant; see `class_keys`.
    """
    if any(name.startswith(one) and name.removeprefix(one) in classes for one in BY_CLASS):
        return MetricName(name, "")
    ending = next(end for end in sorted(VARIANTS, key=len, reverse=True) if name.endswith(end))
    return MetricName(name.removesuffix(ending), ending)


def names_said() -> str:
    """All that can rank, in words."""
    endings = ", ".join(VARIANTS[1:])
    of_classes = [*MEANS_OF_CLASSES.values(), *(f"{prefix}<name>" for prefix in BY_CLASS)]
    return (
        f"{', '.join([*OF_MASKS, *POOLED])}, with several classes {', '.join(of_classes)}, each "
        f"also with {endings}; {', '.join(OF_PROBABILITIES)}, or what evaluate.extra_metrics adds"
    )
