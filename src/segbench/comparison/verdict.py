"""The verdict in words: what the standings say, and what they cannot say."""

from collections.abc import Mapping

from segbench.comparison.leaderboard import Row, Standings
from segbench.comparison.statistics import Interval
from segbench.params.compare import Comparison

WORSE = 0.01
"""Loss on test that is not passed over, of the rule that validation chose."""

COARSE_GROUPS = 20
"""With fewer, intervals are wide and depend much on which groups there are."""


def verdict(params: Comparison, found: Standings, leaky: bool) -> str:
    """Who wins and how sure that is, in a sentence or two; first of all, if the split leaks."""
    champion = found.rows[0]
    lead = ("The split leaks (audit.html), so all scores flatter. " if leaky else "") + (
        f"{champion.alias} has the best validation {params.metric} ({champion.val.mean:.3f}) and "
        f"reaches {in_words(champion.test)} on test."
    )
    if len(found.rows) == 1:
        return lead
    alpha = 1 - params.confidence
    if smallest_p(found) >= alpha:
        pairs = len(found.differences)
        return (
            f"{lead} With {found.num_groups} independent group{_s(found.num_groups)} of test "
            f"images and {pairs} pair{_s(pairs)} of candidates not even a lead in each group would "
            f"have p < {alpha:.2g}: the test set can neither confirm nor refute a lead."
        )
    others = [row for row in found.rows[1:] if row.behind]
    sure = [row for row in others if row.behind and row.behind.p < alpha]
    beaten = [row for row in sure if row.behind and row.behind.interval.mean < 0]
    ahead = [row for row in sure if row not in beaten]
    open_ = [row for row in others if row not in sure]
    parts = [lead]
    if beaten:
        parts.append(f"The test set confirms its lead over {_all(beaten)}.")
    if open_:
        parts.append(f"The test set cannot tell it from {_all(open_)}.")
    if ahead:
        parts.append(f"The test set contradicts: {_all(ahead)} did better there.")
    return " ".join(parts)


def limits(params: Comparison, found: Standings, rollbacks: Mapping[str, int]) -> list[str]:
    """What the reader must not take from the numbers, a sentence each.

    Args:
        params: the section.
        found: the standings.
        rollbacks: of each run, by name.
    """
    said = [
        f"{name} rolled back {'once' if times == 1 else f'{times} times'} after a non-finite loss "
        "and trained on at a lower learning rate: the recipe was not the same for all."
        for name, times in rollbacks.items()
        if times
    ]
    if found.num_groups == 1:
        said.append(
            "All test images are of one group: nothing says how other groups would score, so there "
            "are no intervals and no tests."
        )
    elif found.num_groups < COARSE_GROUPS:
        said.append(
            f"{found.num_groups} independent groups of test images are few: intervals are coarse."
        )
    if found.num_seeds == 1:
        said.append(
            "One seed: no spread across seeds, so all that is said holds for these trained "
            "networks, not for the encoders trained anew."
        )
    champion = found.rows[0]
    plain, chosen = (champion.scores[f"{params.metric}{ending}"] for ending in ("", "_chosen"))
    if chosen <= plain - WORSE:
        said.append(
            f"Masks of {champion.alias} by the rule chosen on validation reach {chosen:.3f} on "
            f"test, by evaluate.threshold {plain:.3f}: the choice does not carry over."
        )
    if len(found.rows) == 1:
        return [*said, "One candidate: nothing is compared."]
    if found.resolvable == found.resolvable:
        said.append(
            f"Differences below about {found.resolvable:.3f} {params.metric} cannot be resolved by "
            "this test set (a difference of that size is found in 80 of 100 such experiments, at "
            f"p < {1 - params.confidence:.2g} for one pair)."
        )
    if found.flattery > 0:
        said.append(
            f"Winner's curse: {champion.alias} was chosen for the best of {len(found.rows)} "
            f"validation scores, which flatters that score by about {found.flattery:.3f}; believe "
            "its test score."
        )
    first = found.stability.firsts[0]
    if found.num_seeds > 1:
        said.append(
            f"{champion.alias} is first on test in {first * found.num_seeds:.0f} of "
            f"{found.num_seeds} seeds; orders of two seeds agree with Kendall's tau "
            f"{found.stability.agreement:.2f} on average."
        )
    return said


def smallest_p(found: Standings) -> float:
    """What a lead in every group could reach in the permutation test, after Holm's correction."""
    return len(found.differences) * 2.0 ** (1 - found.num_groups)


def in_words(value: Interval) -> str:
    """0.706 [0.544, 0.816], or the mean alone where nothing bounds it."""
    if value.low != value.low:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def p_in_words(p: float) -> str:
    """p = 0.034, p < 0.001, or that there is none."""
    if p != p:
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _all(rows: list[Row]) -> str:
    names = [f"{row.alias} ({p_in_words(row.behind.p)})" for row in rows if row.behind]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"
