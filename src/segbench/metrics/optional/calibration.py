"""Calibration: how well probabilities match frequencies."""

import numpy as np

from segbench.metrics.definition import Definition, Evidence
from segbench.metrics.probabilities import PROBABILITIES

BINS = 16
"""Number of bins of equal width; a divisor of 256, so that each byte value falls into one."""

DEFINITIONS = {
    "calibration_error": Definition(
        f"sum over {BINS} bins of probability of the bin's share of pixels x |mean probability - "
        "share of foreground| (expected calibration error of an image)",
        "holds for empty truth too",
        lower_is_better=True,
    )
}


def of_image(evidence: Evidence) -> dict[str, float]:
    """Calibration error of an image, averaged over the classes."""
    binned = evidence.histogram.reshape(len(evidence.histogram), 2, BINS, -1)
    number, positives = binned.sum(axis=(1, 3)), binned[:, 1].sum(axis=-1)
    said = (binned.sum(axis=1) * PROBABILITIES.reshape(BINS, -1)).sum(axis=-1)
    total = number.sum(axis=-1)
    if not total.all():
        return {"calibration_error": np.nan}  # all pixels are ignored
    return {"calibration_error": float((abs(said - positives).sum(axis=-1) / total).mean())}
