"""Slots: the shares of a machine in which stages run side by side."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from segbench.errors import InputError
from segbench.parallel import CORES, num_cores
from segbench.params.hardware import Hardware


@dataclass(frozen=True)
class Slot:
    """A share of a machine.

    Attributes:
        environment: variables of what runs in it.
        says: what it has, in words.
    """

    environment: Mapping[str, str]
    says: str


def slots_of(jobs: int | None, hardware: Hardware) -> list[Slot]:
    """Slots for so many jobs at a time.

    Args:
        jobs: their number; None: as many as there are GPUs for, or cores where there is none, since
            single-threaded trainings side by side are faster than one after another.
        hardware: what each job asks for.

    Raises:
        InputError: for more jobs than GPUs or cores.
    """
    each, gpus = hardware.devices, [] if hardware.device in ("cpu", "mps") else gpus_here()
    if gpus:
        most = len(gpus) // each
        _check(jobs, most, f"{len(gpus)} GPUs, {each} for each job")
        return [
            Slot({"CUDA_VISIBLE_DEVICES": ",".join(own)}, f"GPU {', '.join(own)}")
            for own in (gpus[at * each : (at + 1) * each] for at in range(jobs or most))
        ]
    cores = num_cores()
    most = max(1, cores // each)
    _check(jobs, most, f"{cores} cores, {each} for each job")
    share = max(1, cores // (jobs or most))
    says = f"{share} core{'s' if share > 1 else ''}"
    own = {CORES: str(share), "OMP_NUM_THREADS": str(share)}
    return [Slot(own, says)] * (jobs or most)


def _check(jobs: int | None, most: int, there: str) -> None:
    if jobs is not None and jobs > max(1, most):
        raise InputError(f"--jobs {jobs}: this machine has {there}; set {max(1, most)}, or auto")


def gpus_here() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one for each GPU."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    import torch

    return [str(at) for at in range(torch.cuda.device_count())]
