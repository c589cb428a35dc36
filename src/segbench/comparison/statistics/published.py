"""Published scores: how sure a difference is where of one side only a mean is known.

After Christodoulou et al. 2025 (arXiv 2505.04720): with no preference beforehand, the probability
that the truth is on the other side of a difference d is that of a t distribution beyond d / error.
There both methods share the test images, and their correlation is assumed. Here images are groups
that vary together, trainings vary too, and the two sides are taken for independent: on the same
images scores go together, and the probability is nearer to one half than it need be.
"""

from dataclasses import dataclass

import numpy as np

from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.panel import Floats, Panel, cluster_variance, design_of
from segbench.comparison.statistics.spread import Spread
from segbench.comparison.statistics.uncertainty import intervals

VANISHING = 1e-12
"""Standard error that is rounding alone."""


@dataclass(frozen=True)
class Reported:
    """What is known of a published score.

    Attributes:
        mean: over its test images.
        images: their number.
        sd: of single images; None where it was not published.
    """

    mean: float
    images: int
    sd: float | None


@dataclass(frozen=True)
class Versus:
    """A score of ours and a published one; NaN where nothing bounds it.

    Attributes:
        ours: with the interval that the leaderboard gives.
        published: with the one that is assumed.
        difference: ours minus the published one.
        p_ours: the probability that ours is truly the higher one.
    """

    ours: Interval
    published: Interval
    difference: Interval
    p_ours: float


def compare_with(
    panel: Panel, candidate: int, images: int, sd: float, reported: Reported, confidence: float
) -> Versus:
    """How sure the difference to a published score is.

    The variance that groups of our images give our score, times the number of images, is taken for
    that of a published one too, so that published images come in groups as ours do. A published
    standard deviation replaces the spread of single images, not what groups add to it. One
    published training varies as one of ours, where several of ours show how much.

    Args:
        panel: our scores.
        candidate: its number in the panel.
        images: in our test set.
        sd: of our single images; used where one was published.
        reported: the published score.
        confidence: of each interval.
    """
    ours, gap = intervals(panel, confidence)[candidate], panel.means[candidate] - reported.mean
    unknown = Versus(
        ours,
        Interval(reported.mean, np.nan, np.nan),
        Interval(float(gap), np.nan, np.nan),
        np.nan,
    )
    if panel.num_groups < 2:
        return unknown
    at = np.array([candidate])
    own, free = cluster_variance(panel.groups, at)
    theirs = own * images / reported.images
    if reported.sd is not None:
        of_groups = max(float(own[0]) * images / sd**2, 1.0) if sd > 0 else 1.0
        theirs = np.array([reported.sd**2 * of_groups / reported.images])
    trained, training, degrees = _trainings(panel, candidate, own)
    if design_of(panel) == "folds":  # that they happen to agree does not make images certain
        free = np.minimum(free, degrees)
    # As in differences between candidates: the fewer trainings tell it, the more cautious.
    caution = 0.5 / max(len(panel.means) - 1, 1)
    both = {"images": (own + theirs, free), "trainings": (trained + training, degrees)}
    spread, tail = Spread(both, caution), (1 - confidence) / 2
    if spread.error[0] < VANISHING:  # equal in all groups here, which shows nothing of others
        return unknown
    alone = Spread({"images": (theirs, free), "trainings": (training, degrees)}, caution)
    reach, around = float(spread.reach(tail)[0]), float(alone.reach(tail)[0])
    beyond = float(spread.tail(np.array([gap]))[0])
    return Versus(
        ours,
        Interval(reported.mean, max(reported.mean - around, 0.0), min(reported.mean + around, 1.0)),
        Interval(float(gap), float(gap - reach), float(gap + reach)),
        1 - beyond if gap > 0 else beyond,
    )


def _trainings(panel: Panel, candidate: int, images: Floats) -> tuple[Floats, Floats, Floats]:
    """Variances (1,) that trainings add to our mean, and to the score of one training, and their
    degrees of freedom; 0 where the design cannot tell."""
    at = np.array([candidate])
    if design_of(panel) == "folds":
        folds, free = cluster_variance(panel.folds, at)
        more = np.maximum(folds - images, 0.0)
        return more, more * panel.num_folds, free
    if panel.num_seeds > 1 and panel.num_folds == 1:
        variances, degrees = panel.seed_variances
        return variances[at], variances[at] * panel.num_seeds, degrees[at]
    return np.zeros(1), np.zeros(1), np.ones(1)
