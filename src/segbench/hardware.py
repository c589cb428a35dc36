"""Hardware: what `auto` comes to on this machine."""

import os
from dataclasses import dataclass

import torch

from segbench.errors import InputError
from segbench.params import Train

# Without it cuBLAS refuses to be deterministic; it is read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@dataclass(frozen=True)
class Resolved:
    """What `auto` came to on this machine; it changes bits, so it is recorded.

    Attributes:
        device: cpu, cuda or mps.
        precision: as Lightning names it.
        threads: of torch on the CPU.
    """

    device: str
    precision: str
    threads: int


def resolve(params: Train) -> Resolved:
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
        raise InputError(f"train.device: no {device} on this machine; set auto or cpu")
    precision = params.precision
    if precision == "auto":
        precision = "bf16-mixed" if _computes_bf16(device) else "32-true"
    threads = torch.get_num_threads() if params.threads == "auto" else params.threads
    return Resolved(device, precision, threads)


def _computes_bf16(device: str) -> bool:
    """Is bfloat16 faster than float32 there? On a CPU this takes AVX-512 BF16 or AMX."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return capability == "AVX512" and bool(torch.cpu._is_avx512_bf16_supported())
    return False
