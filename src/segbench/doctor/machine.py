"""Cores, memory, GPU, precision and disks of this machine."""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from segbench.doctor.finding import FAIL, NOTE, OK, Finding
from segbench.errors import InputError
from segbench.params import Params
from segbench.params.datasets import SyntheticPolyps
from segbench.params.hardware import AUTOMATIC
from segbench.progress import in_bytes

SAMPLED_S = 0.5
BUSY = 0.5
"""A process that uses more of a core than this slows down what runs beside it."""
LITTLE_MEMORY, LITTLE_DISK = 2 << 30, 1 << 30
RUN_BYTES, FIXED_BYTES = 300 << 20, 200 << 20
"""Of a run, with its checkpoints, in DVC's cache and in MLflow, for a network of 25 million
parameters; and of all that does not grow with the data."""
CGROUP = Path("/sys/fs/cgroup")


def cores() -> list[Finding]:
    """Cores, and what else uses them."""
    import psutil

    from segbench.parallel import num_cores

    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    processes = [process for process in psutil.process_iter() if process.pid not in mine]
    before = {process.pid: _seconds(process) for process in processes}
    started = time.monotonic()
    time.sleep(SAMPLED_S)
    elapsed = time.monotonic() - started
    busy = sorted(
        (
            (share, process)
            for process in processes
            if (share := (_seconds(process) - before[process.pid]) / elapsed) > BUSY
        ),
        key=lambda pair: -pair[0],
    )
    said = f"{num_cores()} of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}"
    if (limit := _cpu_limit()) and limit < num_cores():
        way_out = f"hardware.threads: {max(1, int(limit))}, since auto takes {num_cores()}"
        found = f"{said}, but a limit (cgroup) allows {limit:.1f} of them"
        return [Finding(NOTE, "cores", found, way_out)]
    if busy:
        named = ", ".join(f"{_name(one)} ({one.pid}) {share:.1f} cores" for share, one in busy[:3])
        way_out = "trainings are slower and measured times too long meanwhile; wait, or end it"
        return [Finding(NOTE, "cores", f"{said}; busy: {named}", way_out)]
    return [Finding(OK, "cores", said)]


def _seconds(process: Any) -> float:
    import psutil

    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _name(process: Any) -> str:
    import psutil

    try:
        return str(process.name())
    except psutil.Error:
        return "a process"


def _cpu_limit() -> float | None:
    """Cores that a container may use; None: no limit."""
    with suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)
    return None


def memory() -> list[Finding]:
    """Memory, and what is left of it."""
    import psutil

    found = psutil.virtual_memory()
    total, free = found.total, found.available
    with suppress(OSError, ValueError):
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        total, free = min(total, limit), min(free, max(0, limit - used))
    said = f"{in_bytes(free)} of {in_bytes(total)} free"
    if free < LITTLE_MEMORY:
        return [Finding(NOTE, "memory", said, "end other programs, or lower train.batch_size")]
    return [Finding(OK, "memory", said)]


def devices(params: Params | None) -> list[Finding]:
    """GPUs of the machine, whether torch sees them, and what `auto` comes to."""
    there = _nvidia()
    import torch

    from segbench.devices import resolve

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    built = f"torch {torch.__version__}"
    if seen:
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(seen))
        gpu = Finding(OK, "gpu", f"{there or names}; {built} sees {seen}")
    elif there:
        cuda = torch.version.cuda
        reason = f"is made for CUDA {cuda}" if cuda else "is a build for CPUs"
        way_out = "update the driver" if cuda else "install the lock's torch, or another build"
        gpu = Finding(NOTE, "gpu", f"{there}, which {built} ({reason}) does not see", way_out)
    elif torch.backends.mps.is_available():
        gpu = Finding(OK, "gpu", f"Apple's, by mps; {built}")
    else:
        gpu = Finding(OK, "gpu", f"none, so the CPU trains; {built}")
    try:
        found = resolve(params.hardware if params else AUTOMATIC)
    except InputError as mistake:
        return [gpu, Finding(FAIL, "hardware", str(mistake))]
    said = (
        f"device {found.device}, precision {found.precision}, {found.threads} threads, "
        f"{found.workers} workers"
    )
    return [gpu, Finding(OK, "hardware", said if params else f"auto comes to {said}")]


def _nvidia() -> str:
    """Name, memory and driver of NVIDIA's GPUs, as their driver says; empty if there are none."""
    query = "--query-gpu=name,memory.total,memory.used,driver_version"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode != 0:
        return ""
    rows = [line.split(", ") for line in done.stdout.splitlines()]
    return ", ".join(
        f"{name} ({used} of {total} in use, driver {driver})" for name, total, used, driver in rows
    )


def disk(root: Path, params: Params | None) -> list[Finding]:
    """Free space of the disks that a run writes to."""
    from segbench.recovery.objects import object_folder

    places = {
        "workspace": root,
        "DVC's cache": object_folder(root),
        "temporary files": _temporary(),
    }
    free: dict[int, tuple[str, int]] = {}
    for name, path in places.items():
        here = next(one for one in (path, *path.absolute().parents) if one.is_dir())
        device = here.stat().st_dev
        if device in free:
            free[device] = (f"{free[device][0]}, {name}", free[device][1])
        else:
            free[device] = (name, shutil.disk_usage(here).free)
    needed = _needed(root, params) if params else LITTLE_DISK
    said = ", ".join(f"{in_bytes(amount)} free ({name})" for name, amount in free.values())
    said += f"; all of this comparison takes about {in_bytes(needed)}" if params else ""
    least = min(amount for _, amount in free.values())
    if least < FIXED_BYTES // 2:
        return [Finding(FAIL, "disk", said, "free some space: docs/trouble.md says what takes it")]
    if least < needed:
        way_out = "'segbench plan' says what is left to do; docs/trouble.md says what takes space"
        return [Finding(NOTE, "disk", said, way_out)]
    return [Finding(OK, "disk", said)]


def _temporary() -> Path:
    import tempfile

    return Path(tempfile.gettempdir())


def _needed(root: Path, params: Params) -> int:
    """Bytes of a whole comparison, roughly, without reading an image."""
    chosen, made = params.comparison, params.dataset
    runs = len(chosen.candidates) * len(chosen.folds) * len(chosen.seeds)
    if isinstance(made, SyntheticPolyps):
        count = made.num_sequences * made.frames_per_sequence
        raw = 4 * count * made.height * made.width
    else:
        count, raw = _files(root / "data/dataset")
        if not count and made.source:
            count, raw = _files(root / Path(made.source).expanduser())
    packed = 4 * count * params.augment.height * params.augment.width * params.split.num_folds
    return 2 * (raw + packed) + runs * RUN_BYTES + FIXED_BYTES


def _files(folder: Path) -> tuple[int, int]:
    """Number and bytes of the files below a folder, or of a single one, as far as a second goes."""
    if folder.is_file():
        return 1, folder.stat().st_size
    count, total, until = 0, 0, time.monotonic() + 1
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_size
                count += 1
        if time.monotonic() > until:
            break
    return count, total
