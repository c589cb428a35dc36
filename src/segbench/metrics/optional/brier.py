"""Brier score: the mean squared error of probabilities (Brier 1950)."""

import numpy as np

from segbench.metrics.definition import Definition, Evidence
from segbench.metrics.probabilities import PROBABILITIES

DEFINITIONS = {
    "brier_score": Definition(
        "mean over pixels of (p - t)^2, t being 1 in the class and 0 elsewhere (Brier 1950); each "
        "class against the rest, averaged over classes; p as it is stored, in 256 levels",
        "holds for empty truth too",
        lower_is_better=True,
    )
}


def of_image(evidence: Evidence) -> dict[str, float]:
    """Brier score of an image, averaged over its classes.

    Exact for probabilities of 256 levels. Rounding to them moves a probability by 1/512 at most
    (1/256 in the first and the last level), and the score by less than twice that.
    """
    number = evidence.histogram.sum(axis=(1, 2))
    if not number.all():
        return {"brier_score": np.nan}  # all pixels are ignored
    outside, inside = evidence.histogram[:, 0], evidence.histogram[:, 1]
    errors = outside @ PROBABILITIES**2 + inside @ (1 - PROBABILITIES) ** 2
    return {"brier_score": float((errors / number).mean())}
