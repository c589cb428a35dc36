"""What means and their differences vary with: groups of images, seeds, folds."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from segbench.comparison.statistics.panel import Floats, Numbers, Panel, cluster_variance, design_of


@dataclass(frozen=True)
class Spread:
    """What means, or differences of them, vary with.

    Attributes:
        parts: variances (P,) and their degrees of freedom (P,) by what varies.
        caution: from 0, one t distribution with Satterthwaite's degrees of freedom, to 1, a t
            quantile for each component (Cochran and Cox), which holds however uneven they are.
    """

    parts: dict[str, tuple[Floats, Floats]]
    caution: float

    @property
    def error(self) -> Floats:
        """(P,) standard errors."""
        return np.sqrt(np.sum([variance for variance, _ in self.parts.values()], axis=0))

    @property
    def degrees(self) -> Floats:
        """(P,) of freedom of the errors, after Satterthwaite."""
        shares = [variance**2 / free for variance, free in self.parts.values()]
        with np.errstate(invalid="ignore", divide="ignore"):
            inverse = np.sum(shares, axis=0)
            fewest = np.min([free for _, free in self.parts.values()], axis=0)
            found: Floats = np.where(inverse > 0, self.error**4 / inverse, fewest)
        return found

    def reach(self, tail: Floats | float) -> Floats:
        """(P,) what chance alone exceeds with this probability on either side."""
        one = (stdtrit(self.degrees, tail) * self.error) ** 2
        each = np.sum(
            [stdtrit(free, tail) ** 2 * variance for variance, free in self.parts.values()], axis=0
        )
        found: Floats = np.sqrt(np.maximum(one, (1 - self.caution) * one + self.caution * each))
        return found

    def tail(self, gaps: Floats) -> Floats:
        """(P,) the probability at which `reach` is as far as a difference; by bisection."""
        low, high = np.full(len(gaps), -300.0), np.full(len(gaps), np.log10(0.5))
        for _ in range(60):
            middle = (low + high) / 2
            farther = self.reach(10**middle) < np.abs(gaps)
            low, high = np.where(farther, low, middle), np.where(farther, middle, high)
        found: Floats = 10**high
        return found


def spread_of(panel: Panel, first: Numbers, second: Numbers) -> Spread:
    """By fold where the claim is about folds, since images and trainings both vary with them; else
    by groups of images, and where the claim is about seeds by those of both."""
    if design_of(panel) == "folds":
        return Spread({"folds": cluster_variance(panel.folds, first, second)}, 0.0)
    parts = {"images": cluster_variance(panel.groups, first, second)}
    if design_of(panel) == "one training":
        return Spread(parts, 0.0)
    variances, degrees = panel.paired_seed_variances
    parts["its seeds"] = variances[first], degrees[first]
    parts["the other's seeds"] = variances[second], degrees[second]
    # The fewer candidates, the less their pooled variance says of one that is unsteady.
    return Spread(parts, 0.7 / max(len(panel.means) - 1, 1))
