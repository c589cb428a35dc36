"""What `segbench repro` would run, how long it should take on this machine, and how much disk."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import networkx as nx
import numpy as np
from dvc.exceptions import DvcException
from dvc.repo import Repo

from segbench.arrays.tiling import tile_windows
from segbench.datasets.canonical import Sample, SampleReader
from segbench.datasets.download import source_of
from segbench.errors import InputError
from segbench.images import resize
from segbench.parallel import num_cores
from segbench.params import Params
from segbench.params.model import Candidate
from segbench.progress import duration

TIMED_SAMPLES = 12
WARM_STEPS, TIMED_STEPS = 2, 4
# Dataset, arrays and models lie in the workspace and in DVC's cache; models in MLflow too.
COPIES, MODEL_COPIES = 2, 3
# A checkpoint has the weights, the best ones, their average and two moments of the optimiser.
CHECKPOINT_COPIES = 5
BYTES_PER_PARAMETER = 4
SECONDS_PER_AUDITED = 0.002
# Rounds of a small network; those of one that takes seconds an image take as long as scoring it.
SECONDS_PER_MEASURED = 5.0


@dataclass(frozen=True)
class Estimate:
    """What one execution of a stage costs."""

    seconds: float
    bytes: int


def stages_to_run() -> list[str]:
    """Names of the stages that are out of date, or depend on one that is.

    Raises:
        InputError: if DVC cannot say it: no repository of DVC, a damaged dvc.yaml, another DVC.
    """
    try:
        return _stages_to_run()
    except DvcException as problem:
        reason = " ".join(str(problem).split())
        raise InputError(f"DVC: {reason}; 'segbench repro --dry' says more") from None


def _stages_to_run() -> list[str]:
    with Repo() as repo:
        changed = set(repo.status())
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


def _readable(reader: SampleReader) -> list[Sample]:
    """The samples of a reader; none if they are unusable, which the stage itself reports."""
    try:
        return list(reader.read())
    except InputError:
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


def estimate_data(params: Params) -> tuple[dict[str, Estimate], Images]:
    """Cost of download, split and augment from a few timed samples, and the number of images."""
    module = source_of(params.dataset.name)
    readers = module.readers(params.dataset)
    total = sum(reader.count for reader in readers)
    started = time.perf_counter()
    samples = list(islice(chain.from_iterable(map(_readable, readers)), TIMED_SAMPLES))
    if not samples:
        raise InputError(
            f"{params.dataset.name}: not one sample can be read; see 'segbench repro download'"
        )
    read = (time.perf_counter() - started) / len(samples)
    started = time.perf_counter()
    for sample in samples:
        resize(sample.image, sample.mask, params.augment.height, params.augment.width)
    pack = (time.perf_counter() - started) / len(samples)
    raw = int(np.mean([sample.image.nbytes + sample.mask.nbytes for sample in samples]))
    packed = count_images(params, samples, total)
    size = 4 * params.augment.height * params.augment.width
    stored = size * params.split.num_folds * (packed.all + packed.copies)
    return {
        # Writing a PNG and reading it again takes about as long as making the sample.
        "download": Estimate(2 * read * total / num_cores(), COPIES * raw * total),
        "split": Estimate(SECONDS_PER_AUDITED * total, 0),
        "augment": Estimate((read + pack) * total / num_cores(), int(COPIES * stored)),
        "measure": Estimate(SECONDS_PER_MEASURED * len(params.comparison.candidates), 0),
        "compare": Estimate(0.0, 0),
    }, packed


@dataclass(frozen=True)
class _Timing:
    """What a network costs: seconds per image of training and of prediction, and to export it."""

    train: float
    predict: float
    export: float
    num_parameters: int


def estimate_runs(params: Params, candidate: Candidate, images: Images) -> dict[str, Estimate]:
    """Cost of one training and one evaluation of a candidate, from a few timed steps."""
    timing = _time_network(params, candidate)
    steps = params.train.steps_per_epoch
    trained = steps * params.train.batch_size if steps else images.train
    epoch = timing.train * trained + timing.predict * images.val
    views = 4 if params.evaluate.flips else 1
    weights = BYTES_PER_PARAMETER * timing.num_parameters
    return {
        "train": Estimate(epoch * _epochs(params), COPIES * weights),
        "evaluate": Estimate(
            views * timing.predict * (images.val + images.test) + timing.export,
            MODEL_COPIES * weights,
        ),
    }


def _time_network(params: Params, candidate: Candidate) -> _Timing:
    """Build a candidate's network untrained, and time its steps on a batch of zeros."""
    import torch

    from segbench.devices import prepare, resolve
    from segbench.models.export import export_network, load_exported
    from segbench.models.network import build_network, num_parameters
    from segbench.training.losses import WeightedLoss
    from segbench.training.optim import make_optimizer

    resolved = resolve(params.hardware)
    prepare(resolved)
    untrained = candidate.model_copy(update={"weights": "none", "weights_sha256": None})
    network = build_network(params.model, untrained, num_outputs=1).to(resolved.device)
    network = network.to(memory_format=resolved.memory_format)
    loss_of = WeightedLoss({"bce": 1.0}, 1)
    chosen = params.train.optimizer
    optimizer = make_optimizer(network, chosen, chosen.learning_rate)
    size = (params.train.batch_size, params.augment.height, params.augment.width)
    zeros = partial(torch.zeros, dtype=torch.uint8, device=resolved.device)
    pixels = zeros((*size, params.model.in_channels)).permute(0, 3, 1, 2)
    masks = zeros(size)
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(resolved.precision)

    def step() -> None:
        with torch.autocast(resolved.device, kind, enabled=kind is not None):
            loss = loss_of(network(pixels), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def predict() -> None:
        network(pixels)

    train_seconds = _seconds_per_call(step, resolved.device)
    network.eval()
    predict_seconds = _seconds_per_call(predict, resolved.device)
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        export_network(network, params.model.in_channels, Path(folder) / "model.pt2")
        load_exported(Path(folder) / "model.pt2")
    return _Timing(
        train=train_seconds / params.train.batch_size,
        predict=predict_seconds / params.train.batch_size,
        export=time.perf_counter() - started,
        num_parameters=num_parameters(network),
    )


def _seconds_per_call(work: Callable[[], None], device: str) -> float:
    for _ in range(WARM_STEPS):
        work()
    _synchronize(device)
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        work()
    _synchronize(device)
    return (time.perf_counter() - started) / TIMED_STEPS


def _epochs(params: Params) -> int:
    """Epochs of all trials and phases, if none ends early."""
    from segbench.training.lr_search import recipes_to_try
    from segbench.training.phases import phases_of

    recipes = [*recipes_to_try(params), params.train]
    return sum(phase.num_epochs for recipe in recipes for phase in phases_of(recipe))


def _synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def make_plan(params: Params) -> str:
    """The plan as text: a line for each kind of stage, and their sum."""
    stages = stages_to_run()
    if not stages:
        return "plan: nothing to run, data and pipeline are up to date"
    costs, images = estimate_data(params)
    started = time.perf_counter()
    import segbench.training.train  # noqa: F401
    from segbench.training.checkpoints import KEPT

    start_up = time.perf_counter() - started
    by_candidate = {
        alias: estimate_runs(params, params.candidates[alias], images)
        for alias in params.comparison.candidates
        if any(f"@{alias}-" in stage for stage in stages)
    }
    lines, seconds, size = [_row("stage", "runs", "time", "disk")], 0.0, 0
    for (name, alias), count in Counter(map(_kind, stages)).items():
        cost = by_candidate[alias][name] if alias else costs[name]
        # Every stage is a process that imports the libraries, and waits for MLflow at its end.
        spent = count * (cost.seconds + (start_up if alias else start_up / 2))
        disk = count * cost.bytes
        lines.append(_row(f"{name} {alias}".rstrip(), count, duration(spent), _size(disk)))
        seconds, size = seconds + spent, size + disk
    if by_candidate:
        largest = max(cost["train"].bytes for cost in by_candidate.values())
        passing = largest // COPIES * CHECKPOINT_COPIES * KEPT
        lines.append(_row("checkpoints, until it is trained", "", "", _size(passing)))
        size += passing
    lines.append(_row("total", len(stages), duration(seconds), _size(size)))
    lines.append(
        f"plan: {len(stages)} stages, about {duration(seconds)} and {_size(size)} on this machine "
        f"({images.all:.0f} images, {_epochs(params)} epochs); "
        "early stopping may end sooner"
    )
    return "\n".join(lines)


def _row(stage: str, runs: int | str, seconds: str, size: str) -> str:
    return f"{stage:<36}{runs:>5}{seconds:>12}{size:>12}"


def _kind(stage: str) -> tuple[str, str]:
    """('train', alias) of 'train@alias-0-1'; ('split', '') of 'split'."""
    name, _, item = stage.partition("@")
    return name, item.split("-")[0]


def _size(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
