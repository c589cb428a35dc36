"""Planning: what other numbers of groups, seeds or folds would find, from the variances found."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import chdtri, stdtr

from segbench.comparison.statistics.panel import (
    FEWEST_FOLDS,
    FEWEST_SEEDS,
    Design,
    Floats,
    Panel,
    cluster_variance,
    design_of,
    group_limit,
    paired_variances,
)
from segbench.comparison.statistics.power import found_mostly
from segbench.comparison.statistics.spread import Spread, spread_of

MOST, MOST_SEEDS, MOST_FOLDS = 1000, 200, 20
"""As many times the groups, as many seeds and folds as are looked at."""
DRAWS = 20_000
_Part = tuple[float, float]
"""A variance and its degrees of freedom."""


@dataclass(frozen=True)
class Variances:
    """What the difference of two candidates varies with, as a comparison found it.

    Attributes:
        design: of that comparison.
        groups, seeds, folds: their numbers.
        images: variance from groups of images, and its degrees of freedom.
        trainings: variance from seeds of both candidates, or from folds beyond their images, and
            its degrees of freedom; 0 where only these networks are spoken of.
    """

    design: Design
    groups: int
    seeds: int
    folds: int
    images: _Part
    trainings: _Part

    def resolvable(self, times: float, trainings: int, rivals: int, confidence: float) -> float:
        """The true difference that is found in 80 of 100 comparisons of another size.

        Args:
            times: as many groups as there were.
            trainings: seeds, or with folds these.
            rivals: candidates that are compared with the champion.
            confidence: of all their intervals together.
        """
        (variance, free), (trained, trained_free) = self.images, self.trainings
        parts = {"images": (variance / times, (free + 1) * times - 1)}
        if self.design == "seeds":
            factor = trainings / self.seeds
            scaled = trained_free * (trainings - 1) / (self.seeds - 1)
            parts["seeds"] = trained / factor, scaled
        elif self.design == "folds":
            together = variance / times + trained * self.folds / trainings
            parts = {"folds": (together, trainings - 1.0)}
        spread = Spread({name: (_array(v), _array(f)) for name, (v, f) in parts.items()}, 0.0)
        error, degrees = float(spread.error[0]), float(spread.degrees[0])
        reach = float(spread.reach(_tail(rivals, degrees, confidence))[0])
        return found_mostly(error, degrees, reach)

    @property
    def trainings_now(self) -> int:
        """Seeds, or with folds these."""
        return self.folds if self.design == "folds" else self.seeds


def _array(value: float) -> np.ndarray:
    return np.array([value])


def variances_of(panel: Panel) -> Variances:
    """Of the differences to the first candidate; the median over the others."""
    rivals = np.arange(1, len(panel.means))
    first = np.zeros_like(rivals)
    design = design_of(panel)

    def median(variance: np.ndarray, free: np.ndarray) -> _Part:
        return float(np.median(variance)), float(np.median(free))

    images = median(*cluster_variance(panel.groups, rivals, first))
    trainings = 0.0, 1.0
    if design == "folds":
        of_folds = median(*cluster_variance(panel.folds, rivals, first))
        # Images alone vary so much at least, though few folds may happen to agree.
        trainings = max(of_folds[0] - images[0], 0.0), of_folds[1]
    elif design == "seeds":
        parts = dict(spread_of(panel, rivals, first).parts)
        del parts["images"]
        seeds = Spread(parts, 0.0)
        trainings = median(seeds.error**2, seeds.degrees)
    return Variances(design, panel.num_groups, panel.num_seeds, panel.num_folds, images, trainings)


def foreseen(pilot: Panel, is_pair: bool, candidates: int, seeds: int, folds: int) -> Variances:
    """What the differences of a comparison that is planned would vary with, from a pilot.

    What the pilot does not show counts as 0: how trainings differ, where it has one of each
    candidate, and how training sets differ, where it has one fold.

    Args:
        pilot: scores of at least two candidates; or of one, each seed in the place of a candidate.
        is_pair: the latter.
        candidates, seeds, folds: that are planned; as many test groups a fold as in the pilot.
    """
    rivals = np.arange(1, len(pilot.means))
    first = np.zeros_like(rivals)
    images, free = (
        float(np.median(part)) for part in cluster_variance(pilot.groups, rivals, first)
    )
    times = folds / pilot.num_folds
    of_images = images / times, (free + 1) * times - 1
    groups = round(pilot.num_groups * times)
    if folds >= FEWEST_FOLDS:
        design: Design = "folds"
        trainings = _apart(pilot, is_pair, seeds) / folds, folds - 1.0
    elif folds == 1 and seeds >= FEWEST_SEEDS and not group_limit(pilot):
        design = "seeds"
        larger, degrees = _as_tested(candidates, seeds)
        trainings = larger * _apart(pilot, is_pair, seeds), degrees
    else:
        design, trainings = "one training", (0.0, 1.0)
    return Variances(design, groups, seeds, folds, of_images, trainings)


def _as_tested(candidates: int, seeds: int) -> tuple[float, float]:
    """By how much the variance that is tested with exceeds the true one, and its degrees of
    freedom: a candidate's own counts where it is larger than that of all."""
    rng = np.random.default_rng(0)
    spreads = []
    for _ in range(200):
        variances, free = paired_variances(rng.standard_normal((candidates, seeds)))
        pair = {"one": (variances[:1], free[:1]), "other": (variances[-1:], free[-1:])}
        spreads.append(Spread(pair, 0.0))
    larger = np.median([one.error**2 for one in spreads]) * seeds / 2
    return float(larger), float(np.median([one.degrees for one in spreads]))


def _apart(pilot: Panel, is_pair: bool, seeds: int) -> float:
    """Variance of a difference from the trainings of one fold with so many seeds."""
    if pilot.num_folds > 1:
        found = variances_of(pilot)
        return found.trainings[0] * pilot.num_folds
    if is_pair:
        each, free = float(pilot.means.var(ddof=1)), len(pilot.means) - 1
    elif pilot.num_seeds > 1:
        each = float(np.median(pilot.paired_seed_variances[0])) * pilot.num_seeds
        free = (pilot.num_seeds - 1) * (len(pilot.means) - 1)
    else:
        return 0.0
    # Two or three trainings are mostly more alike than others will be.
    return 2 * each / seeds / float(chdtri(free, 0.5) / free)


@dataclass(frozen=True)
class Needed:
    """What would resolve a difference.

    Attributes:
        groups: of test images, all else as it is; None where no number is enough.
        trainings: seeds, or with folds these, all else as it is; None where no number is enough,
            and where the claim is on these networks.
        both: groups and trainings, where neither alone is enough, with the least of their product;
            None if that is not enough either.
    """

    groups: int | None
    trainings: int | None
    both: tuple[int, int] | None


def needed(variances: Variances, matters: float, rivals: int, confidence: float) -> Needed:
    """How many groups, or seeds or folds, resolve a difference.

    Args:
        variances: of the difference.
        matters: the difference that is to be found in 80 of 100 comparisons.
        rivals: candidates that are compared with the champion.
        confidence: of all their intervals together.
    """
    now, groups = variances.trainings_now, variances.groups

    def resolvable(groups: int, trainings: int) -> float:
        return variances.resolvable(groups / variances.groups, trainings, rivals, confidence)

    def with_groups(trainings: int) -> int | None:
        return _fewest(lambda number: resolvable(number, trainings), groups, groups * MOST, matters)

    if variances.design == "one training":
        return Needed(with_groups(now), None, None)
    most = max(now, MOST_FOLDS if variances.design == "folds" else MOST_SEEDS)
    trainings = _fewest(lambda number: resolvable(groups, number), now, most, matters)
    found = with_groups(now)
    if found or trainings:
        return Needed(found, trainings, None)
    numbers = sorted({int(number) for number in np.geomspace(now, most, 30)} - {now})
    pairs = ((with_groups(number), number) for number in numbers)
    enough = [(more, number) for more, number in pairs if more]
    return Needed(None, None, min(enough, key=lambda pair: pair[0] * pair[1], default=None))


def _fewest(resolvable: Callable[[int], float], low: int, high: int, matters: float) -> int | None:
    """The smallest number from low to high that resolves; what is resolved falls with numbers."""
    if resolvable(high) > matters:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if resolvable(middle) <= matters else (middle + 1, high)
    return low


def _tail(rivals: int, degrees: float, confidence: float) -> float:
    """Of each side, of the t test that holds for all comparisons with one candidate together
    (Dunnett 1955); by simulation."""
    scale = np.sqrt(np.random.default_rng(1).chisquare(degrees, DRAWS) / degrees)
    return float(stdtr(degrees, -np.quantile(_largest(rivals) / scale, confidence)))


@cache
def _largest(rivals: int) -> Floats:
    """(D,) the largest of comparisons with one candidate, in standard errors."""
    normal = np.random.default_rng(0).standard_normal((DRAWS, rivals + 1))
    found: Floats = np.abs(normal[:, 1:] - normal[:, :1]).max(axis=1) / np.sqrt(2)
    return found
