"""Slots: the shares of a machine in which stages run side by side."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from segbench.errors import InputError
from segbench.parallel import CORES, num_cores
from segbench.params import Params
from segbench.params.hardware import Hardware

AUTO, ONE_AFTER_ANOTHER = "auto", ""


@dataclass(frozen=True)
class Slot:
    """A share of a machine.

    Attributes:
        environment: variables of what runs in it.
        says: what it has, in words.
    """

    environment: Mapping[str, str]
    says: str


def default_jobs(params: Params) -> str:
    """What `segbench repro` does by itself: `AUTO` on a CPU, if there is more than one run for its
    cores, since start-up and single-threaded trainings overlap there; else `ONE_AFTER_ANOTHER`.
    """
    if not _is_cpu(params.hardware):
        return ONE_AFTER_ANOTHER
    return AUTO if len(slots_of(AUTO, params)) > 1 else ONE_AFTER_ANOTHER


def slots_of(jobs: str, params: Params) -> list[Slot]:
    """Slots for so many jobs at a time.

    Args:
        jobs: their number; `AUTO`: as many as there are GPUs for, or cores where there is none, but
            no more than there are runs.
        params: what each job asks for, and the runs.

    Raises:
        InputError: for more jobs than GPUs or cores.
    """
    number = None if jobs == AUTO else int(jobs)
    each, runs = params.hardware.devices, len(params.comparison.runs)
    if gpus := [] if params.hardware.device in ("cpu", "mps") else gpus_here():
        most = len(gpus) // each
        _check(number, most, f"{len(gpus)} GPUs, {each} for each job")
        return [
            Slot({"CUDA_VISIBLE_DEVICES": ",".join(own)}, f"GPU {', '.join(own)}")
            for own in (
                gpus[at * each : (at + 1) * each] for at in range(number or min(most, runs))
            )
        ]
    cores, threads = num_cores(), params.hardware.threads
    each *= 1 if threads == "auto" else threads
    most = max(1, cores // each)
    _check(number, most, f"{cores} cores, {each} for each job")
    number = number or min(most, runs)
    share = max(1, cores // number)
    says = f"{share} core{'s' if share > 1 else ''}"
    own = {CORES: str(share), "OMP_NUM_THREADS": str(share)}
    return [Slot(own, says)] * number


def _is_cpu(hardware: Hardware) -> bool:
    if hardware.device == "auto":
        return sys.platform != "darwin" and not gpus_here()  # a Mac has a GPU of another kind
    return hardware.device == "cpu"


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
