"""Hardware: what `auto` resolves to on this machine, torch's settings, out-of-memory errors."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from segbench.errors import InputError
from segbench.parallel import num_cores
from segbench.params.hardware import Hardware

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


@dataclass(frozen=True)
class ResolvedHardware:
    """The section `hardware` with every `auto` replaced; it is recorded with the run.

    Attributes:
        device: cpu, cuda or mps.
        precision: as Lightning names it.
        threads: of torch on the CPU, in each process.
        workers: processes that make batches, for each process that trains.
    """

    device: str
    devices: int
    strategy: str
    precision: str
    threads: int
    workers: int
    channels_last: bool
    compile: bool
    cuda_graphs: bool
    deterministic: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """How images and weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


def resolve(params: Hardware) -> ResolvedHardware:
    """Replace every `auto` by what suits this machine. Call it before anything touches CUDA.

    Raises:
        InputError: for a device that is not there, more devices than there are, and a precision
            that the device lacks.
    """
    # Without it cuBLAS refuses to be deterministic. It is read when CUDA starts, which the question
    # below whether a GPU computes in bf16 can do. Child processes inherit it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    device = params.device
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if there[name])
    elif not there[device]:
        raise InputError(f"hardware.device: no {device} on this machine; set auto or cpu")
    count = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, params.devices)
    if params.devices > count:
        raise InputError(
            f"hardware.devices: {params.devices}, but this machine has {count} of {device}; "
            f"set {count}"
        )
    precision = params.precision
    if precision == "auto":
        precision = "bf16-mixed" if _computes_bf16(device) else "32-true"
    if precision == "16-mixed" and device == "cpu":
        raise InputError("hardware.precision: 16-mixed needs a GPU; set bf16-mixed or 32-true")
    share = max(1, num_cores() // params.devices)
    threads = params.threads
    if threads == "auto":
        threads = torch.get_num_threads() if params.devices == 1 else share
    usual = max(1, min(8, share - 1))
    if device == "cpu":
        # A core that makes a batch keeps the training ones waiting, in whatever process; a worker,
        # which costs memory and a fork, pays only where a core does not train.
        usual = 1 if threads < share else 0
    workers = usual if params.workers == "auto" else params.workers
    return ResolvedHardware(
        device=device,
        devices=params.devices,
        strategy=params.strategy,
        precision=precision,
        threads=threads,
        workers=workers,
        channels_last=params.channels_last,
        compile=params.compile,
        cuda_graphs=_replays(params, device),
        deterministic=params.deterministic,
    )


def _replays(params: Hardware, device: str) -> bool:
    """Whether steps are replayed as CUDA graphs."""
    alone = device == "cuda" and params.devices == 1
    if params.cuda_graphs == "auto":
        return alone and not params.compile
    if params.cuda_graphs and not alone:
        raise InputError(
            "hardware.cuda_graphs: true needs a single CUDA device; set auto, which takes graphs "
            "where they can be had"
        )
    return params.cuda_graphs


def prepare(resolved: ResolvedHardware) -> None:
    """Set torch's number of threads and whether it computes deterministically."""
    torch.set_num_threads(resolved.threads)
    _keep_freed_memory()
    # On CUDA some losses have no deterministic kernel; there a warning says which.
    torch.use_deterministic_algorithms(resolved.deterministic, warn_only=resolved.device == "cuda")
    # Filling every new tensor reveals reads of uninitialised memory, of which there are none here,
    # and costs a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = resolved.deterministic
    # Which kernel is fastest differs from one run to the next, and with it the bits.
    torch.backends.cudnn.benchmark = not resolved.deterministic


def _keep_freed_memory() -> None:
    """Have glibc reuse freed memory instead of returning it to the system.

    Each large tensor of each step is otherwise mapped anew, a page fault for every 4 KiB of it: a
    tenth of a training's time on the CPU, and a quarter of a prediction's.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device raised it because its memory is full."""
    said = ("DefaultCPUAllocator: can't allocate", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in said)


@contextmanager
def oom_as_input_error(way_out: str) -> Iterator[None]:
    """Turn a device's out-of-memory error into an InputError that names a way out."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"out of memory; {way_out}") from None


def _computes_bf16(device: str) -> bool:
    """Whether bfloat16 is faster than float32 there; on a CPU this takes AVX-512 BF16 or AMX."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return capability == "AVX512" and bool(torch.cpu._is_avx512_bf16_supported())
    return False
