"""The section `comparison`: candidates, repetitions, and the metric that ranks them."""

import ast
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from segbench.labels import class_keys
from segbench.params.datasets import Dataset
from segbench.params.metric_names import parts_of
from segbench.params.published import PublishedScore
from segbench.params.section import Section, Share, did_you_mean

# As long as names of files allow, with ids of images, folds and seeds beside them.
Alias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$", max_length=64)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


MOST_THAT_MATTERS = 0.5
"""Of a metric that lies in 0 to 1."""

LONGEST, MOST_PARTS, SHOWN = 500, 200, 60
"""Characters and parts of a requirement, and how many characters of it a message shows."""
PARTS = (
    *(ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Name, ast.Load, ast.Constant),
)
"""What a requirement may be made of."""
CHARACTERS = re.compile(r"[\w .+*/()<>=!-]*", re.ASCII)


def _check_once(name: str, values: list[Any]) -> None:
    """Raise ValueError if a list has duplicates."""
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{name} name {twice} more than once; remove the repetition")


def _check_expression(text: str) -> None:
    """Raise ValueError unless a requirement compares names and numbers, and nothing else."""
    shown = " ".join(text.split())
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval"))) if len(text) <= LONGEST else []
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(
            f"require: '{shown}' is no expression; write it like 'dice_per_image >= 0.9'"
        ) from None
    if not 0 < len(nodes) <= MOST_PARTS:
        raise ValueError(
            f"require: '{shown}' is longer than {LONGEST} characters, or has more than "
            f"{MOST_PARTS} names, numbers and signs; make several requirements of it"
        )
    for node in nodes:
        number = not isinstance(node, ast.Constant) or type(node.value) in (int, float)
        # Nor comments and several lines, which no part of it shows.
        if not (isinstance(node, PARTS) and number and CHARACTERS.fullmatch(text)):
            raise ValueError(
                f"require: '{shown}' is more than names, numbers, + - * /, comparisons, and, or "
                "and not; write it like 'dice_per_image >= 0.9 and p < 0.05'"
            )


def too_large(value: float, is_a_share: bool) -> str:
    """That no difference of a metric is so large, and what to give instead."""
    if not is_a_share:
        return (
            f"{value:g} is no difference; give one above 0, of a distance in pixels or, with "
            "dataset.spacing and at the original size, in mm"
        )
    return (
        f"{value:g} is no difference between two scores that lie in 0 to 1; give one above 0 and "
        f"below {MOST_THAT_MATTERS}, as 0.01 for one point in a hundred"
    )


def weights_of(weights: Mapping[str, float], keys: Sequence[str]) -> list[float]:
    """The weights of classes, in their order.

    Args:
        weights: by name, see `Comparison.class_weights`.
        keys: of the classes that have a score; see `labels.class_keys`.

    Raises:
        ValueError: for a name that is none of theirs, as the background's.
    """
    found = dict.fromkeys(keys, 0.0)
    for name, weight in weights.items():
        key = name if name in found else class_keys((name,))[0]
        if key not in found:
            raise ValueError(
                f"comparison.class_weights: no class with a score is called '{name}'"
                f"{did_you_mean(name, keys)}; take from {', '.join(keys)}"
            )
        found[key] = weight
    return list(found.values())


class RunKey(NamedTuple):
    """Which training it is: of a candidate, on a fold, with a seed."""

    candidate: str
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """In the paths of dvc.yaml, in reports and in MLflow."""
        return f"{self.candidate}-fold{self.fold}-seed{self.seed}"

    @property
    def item(self) -> str:
        """What DVC appends to a stage: `train@<item>`."""
        return f"{self.candidate}-{self.fold}-{self.seed}"


class Tuning(Section):
    """Learning-rate search before each training, so that every candidate gets its own rate.

    The rate with the best validation dice per image is chosen; the test set is not used.
    """

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=2)]
    """The grid; replaces `train.optimizer.learning_rate`."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Length of a trial as a share of `train.num_epochs`, rounded to at least one epoch."""

    @model_validator(mode="after")
    def _try_each_rate_once(self) -> Self:
        _check_once("learning_rates", self.learning_rates)
        return self


class Comparison(Section):
    """Candidates, repetitions, and requirements on the result."""

    name: Name
    """Name in the report and in MLflow."""
    candidates: Annotated[list[Alias], Field(min_length=1)]
    folds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    """[0], or folds of split.num_folds."""
    seeds: Annotated[list[Seed], Field(min_length=1)]
    tuning: Tuning | None
    """null: all candidates use the learning rate of `train`."""
    metric: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$", max_length=200)]
    """Whichever of the reported metrics ranks the candidates on validation; the test set confirms
    or refutes it. The lowest leads where lower is better. docs/metrics.md lists the names."""
    class_weights: dict[str, float] | None
    """Weights of classes by name, as {car: 2, road: 1}: `metric`, such as dice, is then their
    weighted mean in each image, of the classes that it has a score of. A class that is not named
    does not count. null: all classes weigh the same."""
    smallest_that_matters: float
    """The smallest difference in `metric` that would make the team choose another candidate; in
    pixels or millimetres if that is a distance."""
    cost: Literal["parameters", "latency", "memory"]
    """By which candidates are cheap, where several are as good."""
    runtimes: list[Literal["onnxruntime", "openvino"]]
    """By which latency is measured too, on the CPU: the order of candidates may be another there.
    []: by torch alone, with which the networks are scored."""
    confidence: Share
    num_resamples: PositiveInt
    require: list[str]
    """Requirements such as `dice_per_image >= 0.9` or `p < 0.05 or parameters <
    runner_up_parameters`. The report is written in any case; then the stage fails if one is not
    met. docs/verdict.md lists the names."""
    external: dict[Alias, Dataset]
    """Further test sets by name (another hospital, another camera), each a section like `dataset`.
    All trained networks are scored on each; none is trained or chosen by it. {}: none."""
    published: list[PublishedScore]
    """Scores that others published of this dataset; the report sets each beside the champion's.
    []: none."""

    @property
    def runs(self) -> list[RunKey]:
        """All of them, in the order of the params."""
        axes = (self.candidates, self.folds, self.seeds)
        return [RunKey(*key) for key in itertools.product(*axes)]

    @property
    def items(self) -> list[str]:
        """What DVC appends to the stages that it repeats: of runs, of external sets, of both."""
        runs = [key.item for key in self.runs]
        both = [f"{run}-{name}" for run, name in itertools.product(runs, self.external)]
        return [*runs, *self.external, *both]

    @model_validator(mode="after")
    def _name_everything_once(self) -> Self:
        for axis in ("candidates", "folds", "seeds", "runtimes"):
            _check_once(axis, getattr(self, axis))
        return self

    @field_validator("smallest_that_matters")
    @classmethod
    def _matter_in_units_of_the_metric(cls, value: float, info: ValidationInfo) -> float:
        name = parts_of(info.data.get("metric", ""))
        if value <= 0 or (name.is_a_share and value >= MOST_THAT_MATTERS):
            raise ValueError(too_large(value, name.is_a_share))
        return value

    @field_validator("class_weights")
    @classmethod
    def _weigh_something(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        for name, weight in (weights or {}).items():
            if weight < 0:
                raise ValueError(f"{name}: {weight:g} is below 0; give 0 or more")
        if weights is not None and not any(weights.values()):
            raise ValueError("no class has a weight above 0; give one, or null to weigh all alike")
        return weights

    @model_validator(mode="after")
    def _publish_each_score_once(self) -> Self:
        first: dict[tuple[str, str, str], int] = {}
        for at, row in enumerate(self.published):
            own = (row.name, row.metric, row.averaging)
            if (former := first.setdefault(own, at)) != at:
                raise ValueError(
                    f"published.{at}: '{row.name}' has its {row.metric} ({row.averaging}) in "
                    f"published.{former} already; remove one, or name both differently"
                )
        return self

    @model_validator(mode="after")
    def _require_what_can_be_read(self) -> Self:
        for text in self.require:
            _check_expression(text)
        return self
