"""Requirements: what a comparison must show (comparison.require), or its stage fails."""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simpleeval import InvalidExpression, simple_eval

from segbench.comparison.leaderboard import Leaderboard, LeaderboardRow, told_scores
from segbench.errors import InputError
from segbench.evaluation.costs import Cost
from segbench.params.section import did_you_mean

MISSED = re.compile(r"^- \*\*Requirement not met\*\*: (.*)$", re.MULTILINE)
"""How comparison.md says it."""


@dataclass(frozen=True)
class Requirement:
    """A requirement, evaluated.

    Attributes:
        text: as params have it.
        is_met: False also where any value in it is NaN, whatever the expression makes of it.
        values: of the names in it.
    """

    text: str
    is_met: bool
    values: dict[str, float]

    @property
    def values_text(self) -> str:
        """The values in words."""
        return ", ".join(f"{name} is {value:.4g}" for name, value in self.values.items())


def report_values(board: Leaderboard, costs: Mapping[str, Cost]) -> dict[str, float]:
    """What a requirement may name.

    Returns:
        Values of the champion; of the runner-up (the second on validation), each behind
        `runner_up_`; between them `lead`, the difference on test, with `lead_low` and `lead_high`,
        and `p`, one-sided: small where the champion leads, near 1 where it is contradicted; and of
        each other candidate `behind_of_<alias>`, its difference to the champion, with
        `behind_low_of_<alias>` and `behind_high_of_<alias>`. Of a metric of which lower is better,
        differences have the other sign: above 0 is better.
    """
    known = _values_of(board.rows[0], costs)
    if len(board.rows) > 1:
        second = board.rows[1]
        gap = second.difference_to_champion
        assert gap is not None
        known |= {f"runner_up_{name}": value for name, value in _values_of(second, costs).items()}
        lead = board.gain(gap).interval.turned
        p = gap.p / 2 if lead.mean > 0 else 1 - gap.p / 2
        known |= {"p": p, "lead": lead.mean, "lead_low": lead.low, "lead_high": lead.high}
    for row in board.rows[1:]:
        assert row.difference_to_champion is not None
        behind = board.gain(row.difference_to_champion).interval
        known |= {
            f"behind_of_{row.alias}": behind.mean,
            f"behind_low_of_{row.alias}": behind.low,
            f"behind_high_of_{row.alias}": behind.high,
        }
    return known


def _values_of(row: LeaderboardRow, costs: Mapping[str, Cost]) -> dict[str, float]:
    cost = costs[row.alias]
    return {
        "val": row.val.mean,
        "test": row.test.mean,
        "test_low": row.test.low,
        "test_high": row.test.high,
        "best_probability": row.p_best,
        "parameters": float(row.parameters),
        **told_scores(row),
        "multiply_adds": float(cost.multiply_adds),
        "weight_bytes": float(cost.weight_bytes),
        "latency_ms": cost.latency_ms.median,
        **{f"latency_ms_{name}": own.median for name, own in cost.other_latencies_ms.items()},
        "images_per_second": cost.images_per_second.median,
    }


def evaluate_requirements(require: Sequence[str], known: Mapping[str, float]) -> list[Requirement]:
    """Evaluate requirements.

    Args:
        require: expressions, as params have them.
        known: values by the names that may be used, see `report_values`.

    Raises:
        InputError: for a name that is not known, and what is neither true nor false.
    """
    return [_evaluate(text, known) for text in require]


def _evaluate(text: str, known: Mapping[str, float]) -> Requirement:
    names = sorted({node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)})
    for name in names:
        if name not in known:
            raise InputError(
                f"comparison.require: '{text}' names {name}, which is not known"
                f"{did_you_mean(name, known)}; there are {', '.join(sorted(known))}"
            )
    values = {name: known[name] for name in names}
    try:
        is_met = simple_eval(text, names=values, functions={})
    except (InvalidExpression, TypeError, ArithmeticError, AttributeError) as error:
        raise InputError(
            f"comparison.require: '{text}' cannot be evaluated ({error}); write comparisons, "
            "such as 'dice_per_image >= 0.9 and p < 0.05'"
        ) from None
    if not isinstance(is_met, bool):
        raise InputError(
            f"comparison.require: '{text}' is {is_met}, neither true nor false; compare it, "
            f"as in '{text} > 0'"
        )
    known_all = not any(math.isnan(value) for value in values.values())
    return Requirement(text, is_met and known_all, values)


def require_all(requirements: Sequence[Requirement], report: Path) -> None:
    """Raise InputError if a requirement is not met, naming the report."""
    missed = [f"'{one.text}' ({one.values_text})" for one in requirements if not one.is_met]
    if missed:
        raise InputError(
            f"comparison.require: {'; '.join(missed)} not met; see {report}, and lower the "
            "requirement or find a better candidate"
        )


def missed_in(report: str) -> list[str]:
    """Requirements that are not met, with their values, as comparison.md has them."""
    return MISSED.findall(report)
