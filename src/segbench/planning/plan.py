"""The plan in words: what would run, for how long, with how much disk."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from segbench.arrays.store import read_header
from segbench.datasets.download import source_of
from segbench.params import Params
from segbench.planning.costs import DVC, Costs
from segbench.planning.samples import Samples, read_data
from segbench.planning.speed import time_here
from segbench.planning.stages import MAKE_DATA, parts_of, stages_to_run
from segbench.progress import duration, in_bytes
from segbench.splits.objects import LostObjects

ARRAYS = Path("data/arrays")
RESULTS = (
    *(Path("reports/metrics"), Path("data/evaluate")),
    *(Path("reports/history"), Path("reports/runs")),
)
"""Where runs leave their scores, rows, epochs and run files; see dvc.yaml."""


def make_plan(
    params: Params, besides: Collection[str] = (), jobs: str = "", workers: int = 0
) -> str:
    """The plan as text: a line for each kind of stage, their sum, and what side by side brings.

    Args:
        params: of the workspace in the current folder.
        besides: stages whose dataset's files changed since they were read.
        jobs: stages at a time on this machine, a number or 'auto'; '': one after another.
        workers: machines like this one; 0: this one alone.

    Raises:
        InputError: for more jobs than this machine has GPUs or cores for.
    """
    planned = stages_to_run(besides)
    if not planned.stages:
        return "plan: nothing to run, data and pipeline are up to date"
    stages = [stage.name for stage in planned.stages]
    data = read_data(params, stages)
    asked = {parts_of(stage)[1] for stage in stages}
    aliases = [alias for alias in params.comparison.candidates if alias in asked]
    costs = Costs(params, data, time_here(params, aliases, data.samples))
    lines, seconds, size = _table(stages, costs)
    # Which classes are rare is known once all masks have been read.
    longer = ", train.oversample makes epochs longer, uncounted" if params.train.oversample else ""
    lines.append(
        f"plan: {len(stages)} stages, about {duration(seconds)} and {in_bytes(size)} on this "
        f"machine ({data.images.all:.0f} images, {_epochs(params)} epochs); "
        f"early stopping may end sooner{longer}"
    )
    # Not before: it imports torch, and how long that takes is timed.
    from segbench.planning.side_by_side import describe_jobs, describe_workers, hint

    if jobs:
        lines += describe_jobs(params, planned, costs, jobs, seconds, size)
    elif workers:
        lines += describe_workers(params, planned, costs, data, workers, seconds)
    else:
        lines += hint(params, planned, costs, seconds)
    if lost := _lost_objects(params, data.samples):
        lines.append(f"WARNING: {lost}")
    training = {alias: cost["train"].seconds for alias, cost in costs.by_candidate.items()}
    return "\n".join([*lines, *_certainty(params, stages, training)])


def _table(stages: list[str], costs: Costs) -> tuple[list[str], float, int]:
    """A line for each kind of stage, with their total; and that in seconds and bytes."""
    lines, seconds, size = [_row("stage", "runs", "time", "disk")], 0.0, 0
    of_kind = {parts_of(stage): stage for stage in stages}
    for parts, count in Counter(map(parts_of, stages)).items():
        cost = costs.of(of_kind[parts])
        spent, disk = count * cost.seconds, count * cost.bytes
        lines.append(_row(" ".join(filter(None, parts)), count, duration(spent), in_bytes(disk)))
        seconds, size = seconds + spent, size + disk
    own = costs.timing.start_up * DVC
    seconds += own
    lines.append(_row("DVC itself", "", duration(own), ""))
    if any(name == "train" for name, *_ in of_kind):
        passing = costs.checkpoints
        lines.append(_row("checkpoints, until it is trained", "", "", in_bytes(passing)))
        size += passing
    lines.append(_row("total", len(stages), duration(seconds), in_bytes(size)))
    return lines, seconds, size


def _certainty(params: Params, stages: list[str], training: dict[str, float]) -> list[str]:
    """What the comparison would find, from finished runs of the data that it will have.

    Args:
        params: all of them.
        stages: that are to run.
        training: seconds, by candidate.
    """
    from segbench.comparison.pilot import describe_pilot, read_pilot  # statistics take a second

    is_packed = (ARRAYS / "header.json").exists() and MAKE_DATA.isdisjoint(stages)
    pilot = read_pilot(params, read_header(ARRAYS).digest, *RESULTS) if is_packed else None
    return describe_pilot(params, pilot, training)


def _lost_objects(params: Params, samples: Samples) -> str:
    """What the few masks lose at the networks' size, in words; the audit looks at all."""
    lost = LostObjects(params.augment, source_of(params.dataset.name).info(params.dataset))
    lost.kept += [lost.share_kept(sample.mask, sample.id) for sample in samples.some]
    return lost.describe(f" of {len(samples.some)} looked at")


def _epochs(params: Params) -> int:
    """Epochs of all trials and phases, if none ends early."""
    from segbench.training.lr_search import recipes_to_try
    from segbench.training.phases import phases_of

    recipes = [*recipes_to_try(params), params.train]
    return sum(phase.num_epochs for recipe in recipes for phase in phases_of(recipe))


def _row(stage: str, runs: int | str, seconds: str, size: str) -> str:
    return f"{stage:<48}{runs:>5}{seconds:>12}{size:>12}"
