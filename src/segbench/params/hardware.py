"""The section `hardware`: what trains and scores, and how."""

from typing import Literal

from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
)

from segbench.params.section import Section


class Hardware(Section):
    """What trains and scores, and how; another choice gives other bits, workers apart."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    devices: PositiveInt
    """Of that kind, which share each batch: a process each."""
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"]
    """Lightning's, for several devices."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    threads: PositiveInt | Literal["auto"]
    """CPU threads of torch in each process."""
    workers: NonNegativeInt | Literal["auto"]
    """Processes that make batches, for each process that trains; 0: it makes them itself."""
    resident_gib: NonNegativeFloat
    """A split up to this size stays in a GPU's memory, unless it is varied on the way there."""
    channels_last: bool
    compile: bool
    """By torch.compile, which takes minutes before the first step."""
    deterministic: bool
    """false: cuDNN tries out which kernels are fastest, and the same run may end in other bits."""
