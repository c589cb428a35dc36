"""The metrics there are, by name: which every mask has, which are optional, and who shows which.

An optional metric is a module in `metrics/optional`, named as `evaluate.extra_metrics` names it. It
offers `DEFINITIONS`, a `Definition` for each column that it adds, and `of_image(evidence)`, their
values; nothing else has to know of it.

Legend: N images, F foreground classes (all but class 0), H and W pixels. Ignored pixels (255) are
in no count. Where truth and prediction of a class are both empty, a score is NaN: it is left out of
means, and counted. What holds where one of them is empty, each definition says.
"""

import pkgutil
from collections.abc import Callable
from importlib import import_module

from segbench.metrics import boundary, counts, optional, probabilities
from segbench.metrics.definition import Definition, Evidence

MASK_METRICS = (*counts.SCORES, "accuracy", *boundary.NAMES)
"""Metrics of a mask, however it is made; see `VARIANTS`."""

VARIANTS = ("", "_chosen", "_original", "_original_chosen")
"""Ways to make a mask, as endings of column names: at `evaluate.threshold`, or by the rule that was
chosen on validation; at the network's size, or at the image's own."""

TRUTH_COLUMNS = ("object_size", "num_objects")
"""What subgroups are made by: share of the pixels that is foreground, and number of components."""

_OPTIONAL = {
    module.name: import_module(f"{optional.__name__}.{module.name}")
    for module in pkgutil.iter_modules(optional.__path__)
}

OPTIONAL_METRICS: dict[str, Callable[[Evidence], dict[str, float]]] = {
    name: module.of_image for name, module in _OPTIONAL.items()
}
"""What `evaluate.extra_metrics` may name: columns of an image from what is known of it."""

DEFINITIONS: dict[str, Definition] = {
    **counts.DEFINITIONS,
    **boundary.DEFINITIONS,
    **probabilities.DEFINITIONS,
    **{name: one for module in _OPTIONAL.values() for name, one in module.DEFINITIONS.items()},
}
"""Of every metric there is, by its name in tables."""

SUMMARY_METRICS = ("dice", "iou")
"""Metrics that the scores file has in every variant; the rows of images have all."""

MLFLOW_METRICS = (
    *("dice", "iou", "precision", "recall", "accuracy"),
    *("boundary_iou", "surface_dice", "hausdorff95"),
    *(name for module in _OPTIONAL.values() for name in module.DEFINITIONS),
)
"""Metrics whose means over images MLflow gets: few, so that its page of two runs can be read."""

DVC_METRICS = ("dice", "iou", "precision", "recall", "hausdorff95")
"""Metrics that DVC shows of each candidate, whichever it is that ranks them."""
