"""The plan: what a `dvc repro` would run, how long it should take here, and how much disk."""

import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from dvc.repo import Repo

from segbench.arrays.tiling import windows_of
from segbench.datasets.canonical import Sample, Task
from segbench.datasets.download import source_of
from segbench.errors import InputError
from segbench.images import resize
from segbench.parallel import num_cores
from segbench.params import Params, load_params
from segbench.params.model import Candidate

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
    """Names of the stages that are out of date, or come after one that is."""
    with Repo() as repo:
        changed = set(repo.status())
        graph = repo.index.graph  # edges lead from a stage to those it depends on
        stale: set[str] = set()
        for stage in graph.nodes:
            if stage.addressing in changed:
                stale.add(stage.addressing)
                stale |= {later.addressing for later in _ancestors(graph, stage)}
        return [stage.addressing for stage in repo.index.stages if stage.addressing in stale]


def _ancestors(graph, stage) -> set:  # type: ignore[no-untyped-def, type-arg]
    found, waiting = set(), [stage]
    while waiting:
        for earlier in graph.predecessors(waiting.pop()):
            if earlier not in found:
                found.add(earlier)
                waiting.append(earlier)
    return found


@dataclass(frozen=True)
class Images:
    """How many images, or patches of them, there are in a fold."""

    all: float
    val: float
    test: float
    copies: float

    @property
    def train(self) -> float:
        """Images that an epoch goes through."""
        return self.all - self.val - self.test + self.copies


def _readable(task: Task) -> list[Sample]:
    """The samples of a task, none if they cannot be used: the stage itself says why."""
    try:
        return list(task.read())
    except InputError:
        return []


def count_images(params: Params, samples: list[Sample], total: int) -> Images:
    """Count from the params and, for patches, the sizes of a few samples."""
    chosen = params.augment
    cut = [
        len(windows_of(one.mask.shape[1], one.mask.shape[0], chosen.patches, one.id))
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
    tasks = module.tasks(params.dataset)
    total = sum(task.count for task in tasks)
    started = time.perf_counter()
    samples = list(islice(chain.from_iterable(map(_readable, tasks)), TIMED_SAMPLES))
    if not samples:
        raise InputError(f"{params.dataset.name}: not one sample can be read; see 'dvc repro'")
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


def estimate_runs(params: Params, candidate: Candidate, images: Images) -> dict[str, Estimate]:
    """Cost of one training and one evaluation of a candidate, from a few timed steps."""
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
    optimizer = make_optimizer(
        network, params.train.optimizer, params.train.optimizer.learning_rate
    )
    size = (params.augment.height, params.augment.width)
    batch = params.train.batch_size
    channels = params.model.in_channels
    pixels = torch.zeros((batch, *size, channels), dtype=torch.uint8, device=resolved.device)
    pixels = pixels.permute(0, 3, 1, 2)
    masks = torch.zeros((batch, *size), dtype=torch.uint8, device=resolved.device)
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(resolved.precision)

    def step() -> None:
        with torch.autocast(resolved.device, kind, enabled=kind is not None):
            loss = loss_of(network(pixels), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def score() -> None:
        network(pixels)

    def seconds(work) -> float:  # type: ignore[no-untyped-def]
        for _ in range(WARM_STEPS):
            work()
        _wait(resolved.device)
        started = time.perf_counter()
        for _ in range(TIMED_STEPS):
            work()
        _wait(resolved.device)
        return (time.perf_counter() - started) / TIMED_STEPS / batch

    per_image = seconds(step)
    network.eval()
    per_score = seconds(score)
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        export_network(network, channels, Path(folder) / "model.pt2")
        load_exported(Path(folder) / "model.pt2")
    export = time.perf_counter() - started
    steps = params.train.steps_per_epoch
    epoch = per_image * (steps * batch if steps else images.train) + per_score * images.val
    held_out = images.val + images.test
    weights = BYTES_PER_PARAMETER * num_parameters(network)
    return {
        "train": Estimate(epoch * _epochs(params), COPIES * weights),
        "evaluate": Estimate(
            per_score * held_out * (4 if params.evaluate.flips else 1) + export,
            MODEL_COPIES * weights,
        ),
    }


def _epochs(params: Params) -> int:
    """Of all trials and phases, if none ends early."""
    from segbench.training.lr_search import recipes_to_try
    from segbench.training.phases import phases_of

    recipes = [*recipes_to_try(params), params.train]
    return sum(phase.num_epochs for recipe in recipes for phase in phases_of(recipe))


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def make_plan(params: Params) -> str:
    """The plan as text."""
    stages = stages_to_run()
    if not stages:
        return "plan: nothing to run, data and pipeline are up to date"
    costs, images = estimate_data(params)
    started = time.perf_counter()
    import segbench.training.train  # noqa: F401
    from segbench.training.checkpoints import KEPT

    start_up = time.perf_counter() - started
    by_candidate = {}
    for alias in params.comparison.candidates:
        if any(f"@{alias}-" in stage for stage in stages):
            by_candidate[alias] = estimate_runs(params, params.candidates[alias], images)
    kinds = Counter(_kind(stage) for stage in stages)
    lines, seconds, size = [f"{'stage':<36}{'runs':>5}{'time':>12}{'disk':>12}"], 0.0, 0
    for (name, alias), count in kinds.items():
        cost = by_candidate[alias][name] if alias else costs[name]
        # Every stage is a process that imports the libraries, and waits for MLflow at its end.
        spent = count * (cost.seconds + (start_up if alias else start_up / 2))
        label = f"{name} {alias}" if alias else name
        disk = count * cost.bytes
        lines.append(f"{label:<36}{count:>5}{_time(spent):>12}{_size(disk):>12}")
        seconds, size = seconds + spent, size + disk
    trained = [cost["train"].bytes for cost in by_candidate.values()]
    if trained:
        passing = max(trained) // COPIES * CHECKPOINT_COPIES * KEPT
        lines.append(f"{'checkpoints, until it is trained':<53}{_size(passing):>12}")
        size += passing
    lines.append(f"{'together':<36}{len(stages):>5}{_time(seconds):>12}{_size(size):>12}")
    lines.append(
        f"plan: {len(stages)} stages, about {_time(seconds)} and {_size(size)} on this machine "
        f"({images.all:.0f} images, {_epochs(params)} epochs); "
        "early stopping may end sooner"
    )
    return "\n".join(lines)


def _kind(stage: str) -> tuple[str, str]:
    """('train', alias) of 'train@alias-0-1'; ('split', '') of 'split'."""
    name, _, item = stage.partition("@")
    return name, item.split("-")[0]


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _size(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


if __name__ == "__main__":
    try:
        print(make_plan(load_params(Path(sys.argv[1]))))
    except InputError as mistake:
        sys.exit(f"error: plan: {mistake}")
