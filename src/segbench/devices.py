"""Hardware: what `auto` comes to on this machine, and how torch is told."""

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

# Without it cuBLAS refuses to be deterministic; it is read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


@dataclass(frozen=True)
class ResolvedHardware:
    """What `auto` came to on this machine, and the rest of `Hardware`; it is recorded.

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
    deterministic: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """How images and weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


def resolve(params: Hardware) -> ResolvedHardware:
    """Replace every `auto`.

    Raises:
        InputError: if a device is asked for that is not there.
    """
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
        # A core that has a batch to make keeps the others waiting, in whatever process; a worker,
        # which costs memory and a fork, is for a core that does not train.
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
        deterministic=params.deterministic,
    )


def prepare(resolved: ResolvedHardware) -> None:
    """Tell torch: threads, and whether the same input must give the same bits."""
    torch.set_num_threads(resolved.threads)
    _keep_freed_memory()
    # On CUDA some losses have no deterministic kernel; there a warning says which.
    torch.use_deterministic_algorithms(resolved.deterministic, warn_only=resolved.device == "cuda")
    # It fills every new tensor, to show up those read before they are written, of which there are
    # none here: another tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = resolved.deterministic
    # Trying kernels out picks another one on another day.
    torch.backends.cudnn.benchmark = not resolved.deterministic


def _keep_freed_memory() -> None:
    """Let glibc use memory again instead of giving it back to the system.

    Each large tensor of each step is otherwise mapped anew, a page fault for every 4 KiB of it: a
    tenth of a training's time on the CPU, and a quarter of a prediction's.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Is that what a device says when its memory is full?"""
    said = ("DefaultCPUAllocator: can't allocate", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in said)


@contextmanager
def oom_as_input_error(way_out: str) -> Iterator[None]:
    """Raise InputError with a way out where a device's memory is full."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"out of memory; {way_out}") from None


def _computes_bf16(device: str) -> bool:
    """Is bfloat16 faster than float32 there? On a CPU this takes AVX-512 BF16 or AMX."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return capability == "AVX512" and bool(torch.cpu._is_avx512_bf16_supported())
    return False
