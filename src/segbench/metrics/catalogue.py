"""All metrics by name: those of every mask, optional ones, and which tool shows which.

An optional metric is a module in `metrics/optional`, named as `evaluate.extra_metrics` names it. It
provides `DEFINITIONS`, a `Definition` for each column that it adds, and their values: as
`of_image(evidence)`, or, of masks at the image's own size alone, as `of_masks(own)`. It needs no
other registration.

Legend: N images, F classes that are scored (all but the background, if the dataset has one), H and
W pixels. Ignored pixels (255) are never counted. A score that a class of an image does not define
is NaN: left out of means, and reported as undefined. Each definition says where that is, and what
holds for empty masks. A class that no image of a split holds has no score in that split, and is
left out of its means over classes.
"""

import pkgutil
from collections.abc import Callable
from importlib import import_module

from segbench.metrics import boundary, counts, optional, probabilities
from segbench.metrics.definition import Definition, Evidence, OwnSize
from segbench.params.metric_names import VARIANTS as VARIANTS

MASK_METRICS = (*counts.SCORES, "accuracy", *boundary.NAMES)
"""Metrics computed for each variant of a mask; see `VARIANTS`."""

TRUTH_COLUMNS = ("object_size", "num_objects")
"""Columns that define subgroups: foreground's share of the pixels, and number of components."""

_OPTIONAL = {
    module.name: import_module(f"{optional.__name__}.{module.name}")
    for module in pkgutil.iter_modules(optional.__path__)
}

OPTIONAL_METRICS: dict[str, Callable[[Evidence], dict[str, float]]] = {
    name: module.of_image for name, module in _OPTIONAL.items() if hasattr(module, "of_image")
}
"""Optional metrics by their name in `evaluate.extra_metrics`; each computes an image's columns."""

SHAPE_METRICS: dict[str, Callable[[OwnSize], dict[str, float]]] = {
    name: module.of_masks for name, module in _OPTIONAL.items() if hasattr(module, "of_masks")
}
"""Likewise, those of masks at the image's own size."""

DEFINITIONS: dict[str, Definition] = {
    **counts.DEFINITIONS,
    **boundary.DEFINITIONS,
    **probabilities.DEFINITIONS,
    **{name: one for module in _OPTIONAL.values() for name, one in module.DEFINITIONS.items()},
}
"""Definitions of all metrics, by column name."""

SUMMARY_METRICS = ("dice", "iou")
"""Metrics in the scores file, in every variant; the table of images has all metrics."""

DISTANCES = ("hausdorff95", "surface_dice")
"""Metrics of masks that depend on the unit of length: shown as measured at the original size."""

MLFLOW_METRICS = (
    *("dice", "iou", "precision", "recall", "accuracy", "boundary_iou"),
    *(name for module in _OPTIONAL.values() for name in module.DEFINITIONS),
)
"""Metrics whose means are logged to MLflow: few, so that its comparison view stays readable."""

MOST_CLASSES = 12
"""With more, MLflow and DVC get their means alone; the scores file and reports/ have each class."""

DVC_METRICS = ("dice", "iou", "precision", "recall", "hausdorff95_original")
"""Columns whose means DVC shows for each candidate, whichever metric ranks them."""
