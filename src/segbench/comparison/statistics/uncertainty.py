"""Uncertainty of means: intervals, probability of being best, optimism of the best."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from segbench.comparison.statistics.differences import Interval
from segbench.comparison.statistics.family import normal_draws
from segbench.comparison.statistics.panel import Floats, Panel, cluster_variance, design_of
from segbench.comparison.statistics.spread import Spread

FEWEST_EPOCHS = 8
"""From which the noise between epochs can be told from their trend."""


def intervals(panel: Panel, confidence: float, most: float = 1.0) -> list[Interval]:
    """Confidence interval of each candidate's mean; scores lie in [0, most], and so do the bounds.

    Args:
        panel: the scores.
        confidence: such as 0.95, of each interval for itself.
        most: what no score is above; infinite for distances.
    """
    if panel.num_groups < 2:
        return [Interval(float(mean), np.nan, np.nan) for mean in panel.means]
    reach = _spread_of_means(panel).reach((1 - confidence) / 2)
    return [
        Interval(float(mean), float(max(mean - half, 0.0)), float(min(mean + half, most)))
        for mean, half in zip(panel.means, reach, strict=True)
    ]


def _spread_of_means(panel: Panel) -> Spread:
    every = np.arange(len(panel.means))
    images = cluster_variance(panel.groups, every)
    if design_of(panel) == "folds":
        folds = cluster_variance(panel.folds, every)
        # Images alone vary so much at least, though few folds may happen to agree.
        larger = folds[0] > images[0]
        variance, free = (
            np.where(larger, of_folds, of_images)
            for of_folds, of_images in zip(folds, images, strict=True)
        )
        return Spread({"folds": (variance, free)}, 0.0)
    parts = {"images": images}
    if panel.num_seeds > 1 and panel.num_folds == 1:
        parts["seeds"] = panel.seed_variances
    return Spread(parts, 0.0)


def drawn_means(panel: Panel, number: int, seed: int, tails: bool = True) -> Floats:
    """(B, C): means as they could be, compared with each other, around those that were found.

    Groups (or folds) vary for all candidates together, seeds for each by itself; what a seed does
    to all alike is left out.

    Args:
        panel: the scores.
        number: B.
        seed: of the draws.
        tails: those of t distributions, as probabilities need them where groups and seeds are few;
            without, draws are normal, as averages need them, and all seeds vary alike.
    """
    rng = np.random.default_rng([seed, 5])
    units = panel.folds if design_of(panel) == "folds" else panel.groups
    count = units.number
    moves = units.deviations
    free = max(float(units.effective.mean()) - 1, 0.5)
    seeds_vary = panel.num_seeds > 1 and panel.num_folds == 1 and len(panel.means) > 1
    found = []
    for draws in normal_draws(count, number, seed):
        part = draws @ moves.T
        if tails:
            part /= np.sqrt(chdtri(free, rng.random((len(draws), 1))) / free)
        if seeds_vary:
            variances, degrees = panel.paired_seed_variances
            if tails:
                scale = np.sqrt(variances * degrees / chdtri(degrees, rng.random(part.shape)))
            else:
                scale = np.sqrt(variances.min())
            part += rng.standard_normal(part.shape) * scale
        found.append(panel.means + part)
    return np.concatenate(found)


def best_probabilities(drawn: Floats) -> Floats:
    """(C,): how probable it is that each candidate is the best; ties are split.

    Args:
        drawn: (B, C), see `drawn_means`.
    """
    known = np.nan_to_num(drawn, nan=-np.inf)
    is_best: NDArray[np.bool_] = known >= known.max(axis=1, keepdims=True)
    shares: Floats = (is_best / is_best.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def selection_optimism(means: Floats, drawn: Floats) -> float:
    """By how much the best of several means is better than its true one, for having been chosen.

    Candidates that differ by chance alone spread as much as chance makes them; so their means are
    first drawn together by that share of their spread (empirical Bayes), and the noise that was
    measured is laid upon them.

    Args:
        means: (C,) that were found.
        drawn: (B, C), see `drawn_means`, without tails.
    """
    known = ~np.isnan(means)
    if known.sum() < 2:
        return 0.0
    found, noise = means[known], drawn[:, known] - means[known]
    apart = noise - noise.mean(axis=1, keepdims=True)
    of_chance = float((apart**2).mean() * len(found) / (len(found) - 1))
    spread = float(found.var(ddof=1))
    kept = max(0.0, 1 - of_chance / spread) if spread > 0 else 0.0
    likely = found.mean() + kept * (found - found.mean()) + noise
    winners = likely.argmax(axis=1)
    return float(noise[np.arange(len(noise)), winners].mean())


def choice_of_epoch(scores: Floats, number: int, seed: int) -> float:
    """By how much the best epoch's score is better than its true one, for having been chosen.

    At most: what differs from epoch to epoch by chance may be better on other images too.

    Args:
        scores: (E,) of validation, an epoch each.
        number: of draws.
        seed: of the draws.

    Returns:
        NaN with fewer than `FEWEST_EPOCHS` scores.
    """
    known = scores[~np.isnan(scores)]
    if len(known) < FEWEST_EPOCHS:
        return np.nan
    # Second differences leave the trend out; they vary by 6 times the variance of one score.
    noise = float(np.median(np.abs(np.diff(known, 2)))) / (0.6745 * np.sqrt(6))
    rng = np.random.default_rng([seed, 6])
    drawn = known + noise * rng.standard_normal((number, len(known)))
    return selection_optimism(known, drawn)
