"""The description of a network in its weights file, checked before anything is built by it."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch.utils._python_dispatch import TorchDispatchMode

from segbench.errors import InputError
from segbench.models.catalogue import check_names
from segbench.models.scaling import Channels
from segbench.params.model import Candidate, Model

LONGEST = 100_000
"""Characters of a description."""
LARGEST_SUM = 100_000
"""Of the whole numbers among the arguments: numbers of layers and channels, and the like."""
MOST_OUTPUTS = 256
ELEMENTS_BESIDE_WEIGHTS = 1 << 28
"""That a network may have while it is built: what is computed again and never stored."""


@dataclass(frozen=True)
class Blueprint:
    """Everything needed to build a network except its weights; stored in the weights file.

    Attributes:
        architecture, architecture_args, encoder, encoder_args: as in params.yaml.
        num_outputs: channels of the logits.
        mean, std: normalisation of pixel values in [0, 255], one value per channel.
    """

    architecture: str
    architecture_args: dict[str, Any]
    encoder: str
    encoder_args: dict[str, Any]
    num_outputs: int
    mean: Channels
    std: Channels


def read_blueprint(text: str) -> Blueprint:
    """Read a description.

    Raises:
        InputError: unless it names an architecture, an encoder and arguments that params.yaml may
            name too, none of which loads anything.
    """
    try:
        if len(text) > LONGEST:
            raise ValueError(f"it has more than {LONGEST} characters")
        blueprint = TypeAdapter(Blueprint).validate_python(json.loads(text))
        for args in (blueprint.architecture_args, blueprint.encoder_args):
            total = _sum(args)
            if total > LARGEST_SUM:
                raise ValueError(f"its arguments add up to {total}, the limit is {LARGEST_SUM}")
        if not 1 <= blueprint.num_outputs <= MOST_OUTPUTS:
            raise ValueError(f"num_outputs is {blueprint.num_outputs}, not 1 to {MOST_OUTPUTS}")
        if len(blueprint.mean) != len(blueprint.std) or 0 in blueprint.std:
            raise ValueError("mean and std do not go together")
        if not all(math.isfinite(value) for value in (*blueprint.mean, *blueprint.std)):
            raise ValueError("mean or std is not finite")
        model = Model(
            architecture=blueprint.architecture,
            architecture_args=blueprint.architecture_args,
            in_channels=len(blueprint.mean),
        )
        candidate = Candidate(
            encoder=blueprint.encoder,
            encoder_args=blueprint.encoder_args,
            weights="none",
            weights_sha256=None,
            input_scaling="unit",
            train_share=1.0,
        )
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        place = ".".join(map(str, found["loc"]))
        raise InputError(f"{place}: {found['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(str(error)) from None
    check_names(model, {"it": candidate})
    return blueprint


def _sum(tree: Any) -> float:
    if isinstance(tree, dict):
        return sum(map(_sum, tree.values()))
    if isinstance(tree, list):
        return sum(map(_sum, tree))
    return abs(tree) if isinstance(tree, int | float) else 0


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses new tensors once they have more elements than a limit, all together."""

    FACTORIES = ("empty", "zeros", "ones", "full", "rand", "randn", "arange", "linspace", "eye")

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = limit
        self._limit = limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.removeprefix("new_")
        if name in self.FACTORIES and args:
            size = next((one for one in args if isinstance(one, list | tuple)), args[:1])
            numbers = [one for one in size if isinstance(one, int | float)]
            self._left -= int(min(math.prod(abs(one) for one in numbers), 1 << 62))
            if self._left < 0:
                raise RuntimeError(f"it would hold more than {self._limit} numbers")
        return func(*args, **(kwargs or {}))


@contextmanager
def bounded_memory(weights: int) -> Iterator[None]:
    """Refuse, by RuntimeError, what takes far more memory than a network of so many weights."""
    with _Bounded(4 * weights + ELEMENTS_BESIDE_WEIGHTS):
        yield
