"""What `segbench repro` would run, how long it should take on this machine, and how much disk."""

import gc
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from dvc.exceptions import DvcException
from dvc.repo import Repo

from segbench.arrays.store import read_header
from segbench.datasets.canonical import Sample, SampleReader
from segbench.datasets.download import source_of
from segbench.errors import InputError
from segbench.images import resize
from segbench.parallel import num_cores
from segbench.params import Params
from segbench.params.datasets import Dataset
from segbench.params.model import Candidate
from segbench.progress import duration
from segbench.splits.objects import LostObjects
from segbench.windows import tile_windows

ARRAYS = Path("data/arrays")
MAKE_DATA = {"download", "split", "augment"}
RESULTS = (
    *(Path("reports/metrics"), Path("data/evaluate")),
    *(Path("reports/history"), Path("reports/runs")),
)
"""Where runs leave their scores, rows, epochs and run files; see dvc.yaml."""
TIMED_SAMPLES, TIMED_STEPS = 12, 3
LONGEST_STEP_S = 5.0
"""Steps that would take longer are timed with two images."""
# Dataset, arrays and models lie in the workspace and in DVC's cache; models in MLflow too.
COPIES, MODEL_COPIES = 2, 3
# A checkpoint has the weights, the best ones, their average and two moments of the optimiser.
CHECKPOINT_COPIES = 5
BYTES_PER_PARAMETER = 4
SECONDS_PER_AUDITED = 0.002

# What follows is in units of what it takes to import torch and all else that a training needs: that
# is measured, and stands for the speed of Python on this machine.
DVC = 0.4
"""What DVC takes to start and to end."""
FIXED = {
    "download": 0.3,
    "split": 0.5,
    "augment": 0.9,
    "train": 1.4,
    "evaluate": 1.5,
    "measure": 1.4,
    "compare": 0.9,
    "download_external": 0.3,
    "audit_external": 0.5,
    "augment_external": 0.9,
    "evaluate_external": 1.5,
}
"""A stage's imports, its records and DVC's own work for it."""
EXPORTED, EXPORTED_MODULE = 0.5, 0.0034
"""To export a network and read the file again: for any, and for each of its modules."""
SCORED_MEGAPIXEL = 0.09
"""To score predictions, on one core."""
MEASURED, MEASURED_ROUNDS = 0.3, 10
"""To measure a network's memory and build it; and rounds that its time is measured in, with the
first calls."""


@dataclass(frozen=True)
class Estimate:
    """What one execution of a stage costs."""

    seconds: float
    bytes: int


def stages_to_run(besides: Collection[str] = ()) -> list[str]:
    """Names of the stages that are out of date, or depend on one that is.

    Args:
        besides: stages whose dataset's files changed, which DVC does not see.

    Raises:
        InputError: if DVC cannot say it: no repository of DVC, a damaged dvc.yaml, another DVC.
    """
    try:
        return _stages_to_run({*besides})
    except DvcException as problem:
        reason = " ".join(str(problem).split())
        raise InputError(f"DVC: {reason}; 'segbench repro --dry' says more") from None


def _stages_to_run(besides: set[str]) -> list[str]:
    with Repo() as repo:
        changed = set(repo.status()) | besides
        graph = repo.index.graph  # edges lead from a stage to those it depends on
        stale: set[str] = set()
        for stage in graph.nodes:
            if stage.addressing in changed:
                stale.add(stage.addressing)
                stale |= {later.addressing for later in nx.ancestors(graph, stage)}
        return [stage.addressing for stage in repo.index.stages if stage.addressing in stale]


@dataclass(frozen=True)
class Images:
    """Numbers of images in a fold, or of patches where images are cut."""

    all: float
    val: float
    test: float
    copies: float

    @property
    def train(self) -> float:
        """Images that an epoch goes through."""
        return self.all - self.val - self.test + self.copies


def _readable(reader: SampleReader, problems: list[str]) -> list[Sample]:
    """The samples of a reader; none if they are unusable, with the problem added to those found."""
    try:
        return list(reader.read())
    except InputError as problem:
        problems.append(str(problem))
        return []


def count_images(params: Params, samples: list[Sample], total: int) -> Images:
    """Estimate the numbers from the params and, for patches, from the sizes of a few samples."""
    chosen = params.augment
    cut = [
        len(tile_windows(one.mask.shape[1], one.mask.shape[0], chosen.patches, one.id))
        for one in samples
    ]
    every = total * float(np.mean(cut))
    # What was published of a predefined split is not known before it is read.
    test = every * (params.split.test_share or 1 / max(params.split.num_folds, 2))
    val = every * params.split.val_share
    return Images(every, val, test, chosen.copies * (every - val - test))


@dataclass(frozen=True)
class Samples:
    """A few samples of a dataset, and how many there are of it.

    Attributes:
        some: read from the source.
        total: number of samples.
        read: seconds to read one.
    """

    some: list[Sample]
    total: int
    read: float


def read_samples(dataset: Dataset) -> Samples:
    """Read a few samples, and count them all.

    Raises:
        InputError: if not one can be read.
    """
    readers = source_of(dataset.name).readers(dataset)
    started = time.perf_counter()
    problems: list[str] = []
    every = chain.from_iterable(_readable(reader, problems) for reader in readers)
    some = list(islice(every, TIMED_SAMPLES))
    if not some:
        first = problems[0] if problems else "it holds none"
        raise InputError(f"{dataset.name}: not one sample can be read; the first: {first}")
    read = (time.perf_counter() - started) / len(some)
    return Samples(some, sum(reader.count for reader in readers), read)


def estimate_data(params: Params, samples: Samples, images: Images) -> dict[str, Estimate]:
    """Cost of download, split and augment, beside what is fixed."""
    stored = params.split.num_folds * (images.all + images.copies)
    return {
        "download": _estimate_download(samples),
        "split": Estimate(SECONDS_PER_AUDITED * samples.total, 0),
        "augment": _estimate_packing(params, samples, stored),
        "measure": Estimate(0.0, 0),
        "compare": Estimate(0.0, 0),
    }


def estimate_set(params: Params, samples: Samples, total: int) -> dict[str, Estimate]:
    """Cost of what is done once for an external set, beside what is fixed.

    Args:
        params: all of them.
        samples: of the external set.
        total: images of the dataset that it is compared with.
    """
    images = count_images(params, samples.some, samples.total)
    return {
        "download_external": _estimate_download(samples),
        "audit_external": Estimate(SECONDS_PER_AUDITED * (samples.total + total), 0),
        "augment_external": _estimate_packing(params, samples, images.all),
    }


def _estimate_download(samples: Samples) -> Estimate:
    raw = int(np.mean([one.image.nbytes + one.mask.nbytes for one in samples.some]))
    # Writing a PNG and reading it again takes about as long as making the sample.
    seconds = 2 * samples.read * samples.total / num_cores()
    return Estimate(seconds, COPIES * raw * samples.total)


def _estimate_packing(params: Params, samples: Samples, stored: float) -> Estimate:
    """Of so many images that are stored."""
    height, width = params.augment.height, params.augment.width
    started = time.perf_counter()
    for sample in samples.some:
        resize(sample.image, sample.mask, height, width)
    pack = (time.perf_counter() - started) / len(samples.some)
    seconds = (samples.read + pack) * samples.total / num_cores()
    return Estimate(seconds, int(COPIES * 4 * height * width * stored))


@dataclass(frozen=True)
class Speed:
    """What a candidate's network takes, in seconds.

    Attributes:
        steps: per image of training, in each phase.
        predict: per image, in batches of evaluate.batch_size.
        latency: of a single image.
        num_modules, num_parameters: of the network.
    """

    steps: list[float]
    predict: float
    latency: float
    num_modules: int
    num_parameters: int


def estimate_runs(
    params: Params, speed: Speed, made: float, samples: Samples, images: Images, start_up: float
) -> dict[str, Estimate]:
    """Cost of training, evaluating and measuring a candidate once, beside what is fixed.

    Args:
        params: all of them.
        speed: of its network.
        made: seconds that training waits for an image to be augmented.
        samples: a few.
        images: how many there are.
        start_up: the unit of this module's constants, in seconds.
    """
    from segbench.training.lr_search import recipes_to_try
    from segbench.training.phases import phases_of

    steps = params.train.steps_per_epoch
    trained = steps * params.train.batch_size if steps else images.train
    seconds = sum(
        phase.num_epochs * ((step + made) * trained + speed.predict * images.val)
        for recipe in (*recipes_to_try(params), params.train)
        for step, phase in zip(speed.steps, phases_of(recipe), strict=False)
    )
    weights = BYTES_PER_PARAMETER * speed.num_parameters
    scored = seconds_to_score(params, speed, samples, images.val + images.test, start_up)
    views = 4 if params.evaluate.flips else 1
    exported = EXPORTED + EXPORTED_MODULE * speed.num_modules
    round_seconds = views * (speed.latency + speed.predict * params.evaluate.batch_size)
    return {
        "train": Estimate(seconds, COPIES * weights),
        "evaluate": Estimate(scored + start_up * exported, MODEL_COPIES * weights),
        "measure": Estimate(start_up * MEASURED + MEASURED_ROUNDS * round_seconds, 0),
    }


def seconds_to_score(
    params: Params, speed: Speed, samples: Samples, number: float, start_up: float
) -> float:
    """Seconds to predict and score images.

    Args:
        params: all of them.
        speed: of the network.
        samples: a few of the images.
        number: of images.
        start_up: the unit of this module's constants, in seconds.
    """
    own_size = float(np.mean([sample.mask.size for sample in samples.some]))
    megapixels = number * (params.augment.height * params.augment.width + own_size) / 1e6
    views = 4 if params.evaluate.flips else 1
    scored = SCORED_MEGAPIXEL * megapixels / num_cores()
    return views * speed.predict * number + start_up * scored


def time_network(params: Params, candidate: Candidate) -> Speed:
    """Build a candidate's network untrained, and time a few steps and predictions on zeros."""
    import torch

    from segbench.devices import prepare, resolve
    from segbench.models.network import build_network, num_parameters
    from segbench.training.distributed import make_fabric
    from segbench.training.learner import Learner
    from segbench.training.phases import phases_of

    resolved = resolve(params.hardware)
    share = params.train.batch_size // resolved.devices
    fabric = make_fabric(replace(resolved, devices=1, strategy="auto"))
    prepare(resolved)
    network = build_network(params.model, candidate, num_outputs=1).to(fabric.device)
    network = network.to(memory_format=resolved.memory_format)
    size = (params.augment.height, params.augment.width)
    # A loss that fits one class, and takes about as long as any.
    recipe = params.train.model_copy(update={"loss": {"dice": 1.0, "bce": 1.0}})
    zeros = partial(torch.zeros, dtype=torch.uint8, device=fabric.device)

    def pixels(count: int) -> torch.Tensor:
        return zeros((count, *size, params.model.in_channels)).permute(0, 3, 1, 2)

    def train(learner: Learner, count: int) -> None:
        learner.update(learner.backward((pixels(count), zeros((count, *size)))), 0, 1.0)

    @torch.no_grad()
    def predict(count: int) -> None:
        network(pixels(count))

    steps = []
    for phase in phases_of(recipe):
        learner = Learner(fabric, network, recipe, phase, 10**6, size)
        learner.train_mode()
        step = _seconds_per_image(partial(train, learner), share, resolved.device)
        steps.append(step / resolved.devices)
    network.eval()
    predicted = _seconds_per_image(predict, params.evaluate.batch_size, resolved.device)
    return Speed(
        steps=steps,
        predict=predicted,
        latency=_seconds(predict, 1, resolved.device, TIMED_STEPS),
        num_modules=sum(1 for _ in network.modules()),
        num_parameters=num_parameters(network),
    )


def _seconds_per_image(work: Callable[[int], None], batch_size: int, device: str) -> float:
    """Of batches, or of two images where a batch would take long."""
    few = min(2, batch_size)
    slowest = _seconds(work, few, device, 1) / few
    if slowest * batch_size > LONGEST_STEP_S:
        return slowest
    return _seconds(work, batch_size, device, TIMED_STEPS) / batch_size


def _seconds(work: Callable[[int], None], count: int, device: str, calls: int) -> float:
    """Median over calls, after one that prepares kernels."""
    import torch

    found = []
    for _ in range(1 + calls):
        started = time.perf_counter()
        work(count)
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def seconds_to_augment(params: Params, samples: Samples) -> float:
    """Seconds that training waits for an image to be augmented."""
    from segbench.arrays.transforms import augment_sample, build_pipeline
    from segbench.devices import resolve

    if not params.augment.online or resolve(params.hardware).workers:
        return 0.0  # made beforehand, or beside
    pipeline, size = build_pipeline(params.augment), (params.augment.height, params.augment.width)
    small = [resize(sample.image, sample.mask, *size) for sample in samples.some]
    started = time.perf_counter()
    for number, (image, mask) in enumerate(small):
        augment_sample(pipeline, image.reshape(*size, -1), mask, (number,))
    return (time.perf_counter() - started) / len(small)


def make_plan(params: Params, besides: Collection[str] = ()) -> str:
    """The plan as text: a line for each kind of stage, and their sum.

    Args:
        params: of the workspace in the current folder.
        besides: stages whose dataset's files changed since they were read.
    """
    stages = stages_to_run(besides)
    if not stages:
        return "plan: nothing to run, data and pipeline are up to date"
    samples = read_samples(params.dataset)
    images = count_images(params, samples.some, samples.total)
    costs = {(name, ""): cost for name, cost in estimate_data(params, samples, images).items()}
    sets = {
        name: read_samples(section)
        for name, section in params.comparison.external.items()
        if any(_kind(stage)[2] == name for stage in stages)
    }
    for external, own in sets.items():
        found = estimate_set(params, own, samples.total)
        costs |= {(name, external): cost for name, cost in found.items()}
    start_up = _time_imports()
    by_candidate = {}
    speed_of = {}
    measured: dict[str, Estimate] = {}  # by network: aliases may differ only in their weights
    if aliases := [
        alias
        for alias in params.comparison.candidates
        if any(_kind(stage)[1] == alias for stage in stages)
    ]:
        made = seconds_to_augment(params, samples)
        speeds: dict[str, Speed] = {}
        for alias in aliases:
            changes: dict[str, Any] = {
                **{"weights": "none", "weights_sha256": None, "input_scaling": "imagenet"},
                "train_share": 1.0,  # any other takes as many steps
            }
            untrained = params.candidates[alias].model_copy(update=changes)
            key = untrained.model_dump_json()
            if key not in speeds:
                speeds[key] = time_network(params, untrained)
            found = estimate_runs(params, speeds[key], made, samples, images, start_up)
            by_candidate[alias], measured[key] = found, found["measure"]
            speed_of[alias] = speeds[key]
    costs["measure", ""] = Estimate(sum(one.seconds for one in measured.values()), 0)
    lines, seconds, size = [_row("stage", "runs", "time", "disk")], 0.0, 0
    for (name, alias, external), count in Counter(map(_kind, stages)).items():
        if alias and external:
            own = sets[external]
            number = count_images(params, own.some, own.total).all
            cost = Estimate(seconds_to_score(params, speed_of[alias], own, number, start_up), 0)
        else:
            cost = by_candidate[alias][name] if alias else costs[name, external]
        spent = count * (cost.seconds + start_up * FIXED[name])
        disk = count * cost.bytes
        row = " ".join(filter(None, (name, alias, external)))
        lines.append(_row(row, count, duration(spent), _size(disk)))
        seconds, size = seconds + spent, size + disk
    seconds += start_up * DVC
    lines.append(_row("DVC itself", "", duration(start_up * DVC), ""))
    if any(stage.startswith("train@") for stage in stages):
        from segbench.training.checkpoints import KEPT

        largest = max(cost["train"].bytes for cost in by_candidate.values())
        passing = largest // COPIES * CHECKPOINT_COPIES * KEPT
        lines.append(_row("checkpoints, until it is trained", "", "", _size(passing)))
        size += passing
    lines.append(_row("total", len(stages), duration(seconds), _size(size)))
    # Which classes are rare is known once all masks have been read.
    longer = ", train.oversample makes epochs longer, uncounted" if params.train.oversample else ""
    lines.append(
        f"plan: {len(stages)} stages, about {duration(seconds)} and {_size(size)} on this machine "
        f"({images.all:.0f} images, {_epochs(params)} epochs); "
        f"early stopping may end sooner{longer}"
    )
    if lost := _lost_objects(params, samples):
        lines.append(f"WARNING: {lost}")
    training = {alias: cost["train"].seconds for alias, cost in by_candidate.items()}
    return "\n".join([*lines, *_certainty(params, stages, training)])


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


def _time_imports() -> float:
    """Seconds to import what a training needs, as its stage does it."""
    gc.disable()
    started = time.perf_counter()
    import segbench.training.train  # noqa: F401

    gc.enable()
    return time.perf_counter() - started


def _epochs(params: Params) -> int:
    """Epochs of all trials and phases, if none ends early."""
    from segbench.training.lr_search import recipes_to_try
    from segbench.training.phases import phases_of

    recipes = [*recipes_to_try(params), params.train]
    return sum(phase.num_epochs for recipe in recipes for phase in phases_of(recipe))


def _row(stage: str, runs: int | str, seconds: str, size: str) -> str:
    return f"{stage:<48}{runs:>5}{seconds:>12}{size:>12}"


def _kind(stage: str) -> tuple[str, str, str]:
    """A stage, its candidate and its external set: ('train', alias, '') of 'train@alias-0-1'."""
    name, _, item = stage.partition("@")
    parts = item.split("-")
    if len(parts) == 1 and item:
        return name, "", item
    return name, parts[0], parts[-1] if name.endswith("_external") else ""


def _size(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
