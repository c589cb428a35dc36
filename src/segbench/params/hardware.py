"""The section `hardware`: devices, precision, and how data reach them."""

from typing import Literal

from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
)

from segbench.params.section import Section


class Hardware(Section):
    """Devices for training and scoring. Any change but `workers` can change results bit for bit."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    devices: PositiveInt
    """Number of devices; each runs one process, and every batch is split among them."""
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"]
    """Lightning's strategy for several devices."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    threads: PositiveInt | Literal["auto"]
    """CPU threads that torch uses in each process."""
    workers: NonNegativeInt | Literal["auto"]
    """Data-loading processes per training process; 0: load in the training process itself."""
    resident_gib: NonNegativeFloat
    """Splits up to this size are kept in GPU memory, unless they are augmented online."""
    channels_last: bool
    compile: bool
    """Use torch.compile, which takes minutes before the first step."""
    cuda_graphs: bool | Literal["auto"]
    """Replay each step as a CUDA graph: the same kernels, and so the same bits, launched at once.
    auto: on a single CUDA device, unless compiled."""
    deterministic: bool
    """false: cuDNN benchmarks kernels for speed, and reruns may differ in the last bits."""


AUTOMATIC = Hardware(
    device="auto",
    devices=1,
    strategy="auto",
    precision="auto",
    threads="auto",
    workers="auto",
    resident_gib=0,
    channels_last=True,
    compile=False,
    cuda_graphs="auto",
    deterministic=True,
)
"""Where there is no params.yaml."""
