"""Mean scores over thresholds, as in PraNet (Fan et al. 2020) and papers that follow it.

Probabilities are stretched to [0, 1] for each image, which cannot be done with a fixed threshold in
deployment; it is here only for comparison with published numbers that were measured this way.
"""

import numpy as np

from segbench.metrics.counts import dice, iou
from segbench.metrics.definition import Definition, Evidence
from segbench.metrics.probabilities import LEVELS, counts_at

DEFINITIONS = {
    name: Definition(
        f"{short} after stretching the image's probabilities to [0, 1], the mean over 256 "
        "thresholds (PraNet)",
        "left out where the truth is empty",
    )
    for name, short in (("dice_over_thresholds", "dice"), ("iou_over_thresholds", "IoU"))
}


def of_image(evidence: Evidence) -> dict[str, float]:
    """Scores of an image, averaged over the classes in its truth."""
    rows = []
    for histogram in evidence.histogram:
        if not histogram[1].any():
            continue
        (levels,) = np.nonzero(histogram.sum(axis=0))
        low, high = levels[0], levels[-1]
        cuts = np.ceil(low + np.linspace(0, 1, LEVELS) * (high - low) - 1e-9).astype(int)
        counts = counts_at(histogram)[cuts]
        rows.append([float(score(counts).mean()) for score in (dice, iou)])
    means = np.mean(rows, axis=0).tolist() if rows else [np.nan] * len(DEFINITIONS)
    return dict(zip(DEFINITIONS, means, strict=True))
