"""Gates: what a comparison must show (comparison.require), or its stage fails."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simpleeval import InvalidExpression, simple_eval

from segbench.comparison.leaderboard import Row, Standings, per_image
from segbench.errors import InputError
from segbench.evaluation.costs import Cost
from segbench.params.section import did_you_mean


@dataclass(frozen=True)
class Gate:
    """A requirement.

    Attributes:
        text: as params have it.
        holds: NaN, which is what a comparison cannot tell, holds nothing.
        values: of the names in it.
    """

    text: str
    holds: bool
    values: dict[str, float]

    @property
    def found(self) -> str:
        """The values in words."""
        return ", ".join(f"{name} is {value:.4g}" for name, value in self.values.items())


def claims(found: Standings, costs: Mapping[str, Cost]) -> dict[str, float]:
    """What a requirement may name: of the champion, of the runner-up (the second on validation,
    behind `runner_up_`), and between them `p` and `lead`, the difference on test."""
    known = _of(found.rows[0], costs)
    if len(found.rows) > 1:
        second = found.rows[1]
        assert second.behind is not None
        known |= {f"runner_up_{name}": value for name, value in _of(second, costs).items()}
        known |= {"p": second.behind.p, "lead": -second.behind.interval.mean}
    return known


def _of(row: Row, costs: Mapping[str, Cost]) -> dict[str, float]:
    cost = costs[row.alias]
    return {
        "val": row.val.mean,
        "test": row.test.mean,
        "test_low": row.test.low,
        "test_high": row.test.high,
        "best_probability": row.best,
        "parameters": float(row.parameters),
        **{per_image(name): value for name, value in row.scores.items()},
        **row.pooled,
        "multiply_adds": float(cost.multiply_adds),
        "weight_bytes": float(cost.weight_bytes),
        "latency_ms": cost.latency_ms.median,
        "images_per_second": cost.images_per_second.median,
    }


def check(require: Sequence[str], known: Mapping[str, float]) -> list[Gate]:
    """Evaluate requirements.

    Raises:
        InputError: for a name that nothing has, or what is no yes or no.
    """
    gates = []
    for text in require:
        names = sorted(
            {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        )
        for name in names:
            if name not in known:
                raise InputError(
                    f"comparison.require: '{text}' names {name}, which is not known"
                    f"{did_you_mean(name, known)}; there are {', '.join(sorted(known))}"
                )
        values = {name: known[name] for name in names}
        try:
            holds = simple_eval(text, names=values, functions={})
        except (InvalidExpression, TypeError, ArithmeticError, AttributeError) as error:
            raise InputError(
                f"comparison.require: '{text}' cannot be evaluated ({error}); write comparisons, "
                "such as 'dice_per_image >= 0.9 and p < 0.05'"
            ) from None
        if not isinstance(holds, bool):
            raise InputError(
                f"comparison.require: '{text}' is {holds}, neither true nor false; compare it, "
                f"as in '{text} > 0'"
            )
        gates.append(Gate(text, holds, values))
    return gates


def insist(gates: Sequence[Gate], report: object) -> None:
    """Raise InputError if a gate does not hold."""
    failed = [f"'{gate.text}' ({gate.found})" for gate in gates if not gate.holds]
    if failed:
        raise InputError(
            f"comparison.require: {'; '.join(failed)} does not hold; see {report}, and lower the "
            "requirement or find a better candidate"
        )
