"""What stages side by side would bring, on this machine or on several, in words."""

from collections.abc import Sequence
from dataclasses import replace

from segbench.devices import resolve
from segbench.jobs.list_schedule import Slots, Span, critical_path, lay_out
from segbench.jobs.pipeline import Stage
from segbench.jobs.slots import AUTO, Slot, slots_of
from segbench.parallel import CORES, num_cores
from segbench.params import Params
from segbench.planning.costs import DVC, Costs
from segbench.planning.in_slots import time_in_slots
from segbench.planning.samples import Data
from segbench.planning.stages import Planned, parts_of
from segbench.planning.traffic import LINK, Fleet, Sizes
from segbench.progress import duration, in_bytes

ON_DEVICE = {"train", "evaluate", "evaluate_external", "measure"}
"""Stages that take a GPU where there is one."""
IN_WORDS = {
    **{"arrays": "arrays", "dataset": "dataset", "train": "weights"},
    **{"evaluate": "evaluations", "external": "external sets"},
}


def describe_jobs(
    params: Params, planned: Planned, costs: Costs, jobs: str, seconds: float, size: int
) -> list[str]:
    """What `segbench repro --jobs` would take.

    Args:
        params: all of them.
        planned: the stages.
        costs: of each with all of this machine.
        jobs: at a time, a number or 'auto'.
        seconds: of all, one after another.
        size: bytes on disk of all, one after another.

    Raises:
        InputError: for more jobs than this machine has GPUs or cores for.
    """
    slots = slots_of(jobs, params)
    each = _in_slots(planned.stages, costs, slots)
    wall = costs.timing.start_up * DVC + _end(lay_out(planned.stages, Slots(len(slots), each)))
    trainings = sum(stage.kind == "train" for stage in planned.stages)
    more = (min(len(slots), trainings) - 1) * costs.checkpoints if trainings else 0
    device = _Device(params)
    beside = {stage.name for stage in planned.stages if stage.is_beside}
    shares = {name: 1 / len(slots) if device.is_shared and name in beside else 1 for name in each}
    alone = {stage.name: costs.of(stage.name).seconds for stage in planned.stages}
    return [
        f"--jobs {jobs}: {len(slots)} at a time, each with {slots[0].says}: about {duration(wall)}"
        f", {seconds / wall:.1f} times as fast",
        _path(planned.stages, each),
        f"  stages: about {device.hours(each, shares)}, one after another {device.hours(alone)}; "
        f"disk: about {in_bytes(size + more)}",
    ]


def hint(params: Params, planned: Planned, costs: Costs, seconds: float) -> list[str]:
    """A line on what `--jobs auto` would bring, where no more need be timed for it: on GPUs."""
    slots = slots_of(AUTO, params)
    if len(slots) < 2 or _Device(params).is_shared:
        return []
    each = _in_slots(planned.stages, costs, slots)
    wall = costs.timing.start_up * DVC + _end(lay_out(planned.stages, Slots(len(slots), each)))
    return [f"side by side on {len(slots)} GPUs (--jobs auto): about {duration(wall)}"]


def describe_workers(
    params: Params,
    planned: Planned,
    costs: Costs,
    data: Data,
    workers: int,
    seconds: float,
) -> list[str]:
    """What machines like this one would take, each with one training or scoring at a time.

    Args:
        params: all of them.
        planned: the stages.
        costs: of each with all of this machine.
        data: what there is of it.
        workers: number of machines.
        seconds: of all, one after another.
    """
    sizes, own = Sizes(params, data, costs), costs.timing.start_up * DVC
    # A worker has DVC pull and push for each stage.
    each = {
        stage.name: costs.of(stage.name).seconds + (own if stage.is_beside else 0)
        for stage in planned.stages
    }
    # What must be alone is so where it runs.
    stages = [replace(stage, sharing="") if stage.is_alone else stage for stage in planned.stages]
    fleet = Fleet(workers, each, planned.reads, sizes)
    # One process here pulls the results, one after another.
    wall = max(_end(lay_out(stages, fleet)), fleet.results / LINK)
    device = _Device(params)
    held = device.words(workers * wall * device.number / 3600)
    per_fold = sizes.parts(["data/arrays/fold0/train", "data/arrays/fold0/val"])
    passing = costs.checkpoints if any(stage.kind == "train" for stage in stages) else 0
    there = f", and what is up to date here, {in_bytes(fleet.there)}, once" if fleet.there else ""
    return [
        f"--workers {workers}: machines like this one, which train and score one at a time: about "
        f"{duration(wall)}, {seconds / wall:.1f} times as fast",
        _path(stages, each),
        f"  stages: about {device.hours(each)}; the workers are held for {held}",
        f"  workers pull about {_amounts(fleet.pulled)}; a training's arrays are "
        f"{in_bytes(sum(per_fold.values()))} for each worker and fold",
        f"  pushed: about {_amounts(fleet.pushed)}{there}; this machine pulls "
        f"{in_bytes(fleet.results)} of results; at 1 Gbit/s all this is "
        f"{fleet.transfers / (fleet.transfers + sum(each.values())):.0%} of the stages' time",
        f"  disk: about {in_bytes(fleet.disk + passing)} on a worker, "
        f"{in_bytes(sum(fleet.pushed.values()) + fleet.there)} in the remote, here as without them",
    ]


def _in_slots(stages: Sequence[Stage], costs: Costs, slots: Sequence[Slot]) -> dict[str, float]:
    """Seconds of each stage where those that share the machine have a slot."""
    own = costs
    is_smaller = any(CORES in slot.environment for slot in slots) and len(slots) > 1
    if is_smaller and costs.timing.speeds:
        own = costs.by(time_in_slots(slots, [*costs.timing.speeds]))
    return {
        stage.name: (own if stage.is_beside else costs).of(stage.name).seconds for stage in stages
    }


def _end(spans: Sequence[Span]) -> float:
    return max(span.end for span in spans)


def _path(stages: Sequence[Stage], seconds: dict[str, float]) -> str:
    path = critical_path(stages, seconds)
    took = duration(sum(seconds[name] for name in path))
    return f"  critical path: about {took} however many there are: {', '.join(path)}"


def _amounts(sizes: dict[str, int]) -> str:
    """Their sum and the parts of it."""
    parts = [f"{IN_WORDS[kind]} {in_bytes(size)}" for kind, size in sizes.items() if size]
    return f"{in_bytes(sum(sizes.values()))} ({', '.join(parts)})" if parts else in_bytes(0)


class _Device:
    """What hours are counted in."""

    def __init__(self, params: Params) -> None:
        self.is_shared = resolve(params.hardware).device == "cpu"
        self.number = num_cores() if self.is_shared else params.hardware.devices

    def hours(self, seconds: dict[str, float], shares: dict[str, float] | None = None) -> str:
        """Of stages, by what each has of the machine; on GPUs of those that use one."""
        counted = sum(
            one * (shares or {}).get(name, 1)
            for name, one in seconds.items()
            if self.is_shared or parts_of(name)[0] in ON_DEVICE
        )
        return self.words(counted * self.number / 3600)

    def words(self, hours: float) -> str:
        """'0.24 core hours'."""
        number = f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"
        return f"{number} {'core' if self.is_shared else 'GPU'} hours"
