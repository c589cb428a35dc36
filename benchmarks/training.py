"""Speed of training as shipped, as ratios measured in one run.

    (a) a training epoch, with its checkpoint and its record, over the compute limit: the same
        network, loss and optimiser stepping on one batch that is already there, in the same
        precision and layout
    (b) over a plain loop in the style of the common examples, in a process of its own with torch as
        it comes: PNG files decoded for each sample, the same augmentation, float32, NCHW
    (c) peak memory of the training process, and of one on twenty times the data

All train the same network on the same images. Rounds alternate between them, and a ratio is the
median over rounds, so that a machine that slows down for a while does not decide; on a CPU, steps
of (a) alternate with those of the limit. Needs neither DVC nor MLflow.

    python benchmarks/training.py params.yaml [BATCH_SIZE]
"""

import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
import torch

from segbench.arrays.batches import Batch, PlainBatches, TrainBatches
from segbench.arrays.store import Arrays, ArrayWriter, Header, open_arrays
from segbench.arrays.transforms import augment_sample, build_pipeline
from segbench.datasets.canonical import DatasetInfo
from segbench.devices import ResolvedHardware, prepare, resolve
from segbench.models.network import SegmentationNetwork, build_network
from segbench.params import Params, load_params
from segbench.params.model import Candidate
from segbench.tracking.records import Record, Run, now_ms
from segbench.training.checkpoints import Checkpoints
from segbench.training.data import TrainingData
from segbench.training.distributed import make_fabric
from segbench.training.losses import WeightedLoss
from segbench.training.optim import make_optimizer
from segbench.training.trainer import Progress, Trainer
from segbench.training.validation import Validation

ENCODERS = ("tu-mobilenetv2_035", "mobilenet_v2", "resnet18", "resnet50")
SIZE = 256
ROUNDS = 3
EPOCH = 61
"""Steps of an epoch as shipped: CVC-ClinicDB's 490 training images in batches of 8."""
STEPS = 10
"""Steps of everything else."""
FEW, MANY = 1_000, 20_000


class Bench:
    """One encoder on one dataset, measured in several ways; each gives images a second."""

    def __init__(self, params: Params, encoder: str, root: Path) -> None:
        self.params = params
        self.candidate = Candidate(
            encoder=encoder,
            encoder_args={},
            weights="none",
            weights_sha256=None,
            input_scaling="imagenet",
            train_share=1.0,
        )
        self.root = root
        self.arrays = open_arrays(root / "arrays")
        self.resolved = resolve(params.hardware)
        self.fabric = make_fabric(self.resolved)
        self.batch = params.train.batch_size
        # Else what goes on beside the steps would go on during those of the limit too.
        self.alternates = self.resolved.device == "cpu" and self.resolved.workers == 0

    def network(self) -> SegmentationNetwork:
        torch.manual_seed(0)
        return build_network(self.params.model, self.candidate, 1).to(self.resolved.device)

    def fast_network(self) -> SegmentationNetwork:
        return self.network().to(memory_format=self.resolved.memory_format)

    def resident(self) -> tuple[torch.Tensor, torch.Tensor]:
        images, masks = next(iter(PlainBatches(self.arrays, self.batch)))
        return images.to(self.resolved.device), masks.to(self.resolved.device)

    def shipped(self, limit: Callable[[], object] | None = None) -> tuple[float, float]:
        """An epoch as the train stage has it, less validation, after some of a single step.

        In the first of those a worker is forked, if there is one, here from a process with memory
        to copy; and from the fourth on a checkpoint's file is used again.

        Args:
            limit: a step of the limit, done after each.

        Returns:
            Images a second; and those of the limit, nan without it.
        """
        recipe = self.params.train.model_copy(update={"num_epochs": 5})
        batches = TrainBatches(
            self.arrays,
            self.batch,
            partial(augment_sample, build_pipeline(self.params.augment)),
            0,
            EPOCH,
            self.resolved.workers,
            pinned=self.resolved.device == "cuda",
        )
        run = Run("a" * 32, "train", "bench", "bench", now_ms())
        between = Between(limit)
        with TemporaryDirectory() as folder, Record(Path(folder) / "record", run) as record:
            few = Arrays(self.arrays.images[:8], self.arrays.masks[:8], self.arrays.samples[:8])
            header = Header(INFO, SIZE, SIZE, 3, "")
            data = TrainingData(header, batches, PlainBatches(few, 8), few, 0, 0, np.arange(8), 1)
            checkpoints = Checkpoints(Path(folder) / "checkpoints", "key")
            progress = Progress(run.name, record, checkpoints, self.params.checkpoints)
            graphs = self.resolved.cuda_graphs
            network = self.fast_network()
            trainer = _Timed(self.fabric, network, recipe, data, 0.5, progress, graphs)
            trainer.between = between
            trainer.run()
        seconds = trainer.seconds - between.seconds
        return EPOCH * self.batch / seconds, between.rate * self.batch

    def trained(self) -> tuple[float, float]:
        """As shipped, and the limit: forward, backward and step on one resident batch, which is
        what the arithmetic alone allows."""
        resident = self.resident()
        limit = self.step(self.fast_network(), lambda: resident, self.kind)
        if self.alternates:
            return self.shipped(limit)
        return self.shipped()[0], self._per_second(limit)

    @property
    def kind(self) -> torch.dtype | None:
        """What autocast computes in."""
        kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
        return kinds.get(self.resolved.precision)

    def plain(self) -> float:
        """Decode, resize and vary each sample when it is needed; float32, NCHW."""
        pipeline = build_pipeline(self.params.augment)
        files = cycle(sorted((self.root / "images").glob("*.png")))

        def load() -> tuple[torch.Tensor, torch.Tensor]:
            images, masks = [], []
            for _ in range(self.batch):
                file = next(files)
                image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
                image = cv2.resize(image, (SIZE, SIZE))
                mask = cv2.imread(str(self.root / "masks" / file.name), cv2.IMREAD_GRAYSCALE)
                mask = cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
                varied = pipeline(image=image, mask=mask)
                images.append(torch.from_numpy(varied["image"].transpose(2, 0, 1).copy()).float())
                masks.append(torch.from_numpy(varied["mask"].copy()))
            device = self.resolved.device
            return torch.stack(images).to(device), torch.stack(masks).to(device)

        return self._per_second(self.step(self.network(), load, None))

    def step(
        self,
        network: SegmentationNetwork,
        load: Callable[[], tuple[torch.Tensor, torch.Tensor]],
        kind: torch.dtype | None,
        **arguments: bool,
    ) -> Callable[[], None]:
        """A step with nothing beside it; the arguments are further ones of the optimiser."""
        loss_of = WeightedLoss(self.params.train.loss, 1)
        recipe = self.params.train.optimizer
        recipe = recipe.model_copy(update={"args": {**recipe.args, **arguments}})
        optimizer = make_optimizer(network, recipe, recipe.learning_rate)

        def step() -> None:
            images, masks = load()
            with torch.autocast(self.resolved.device, kind, enabled=kind is not None):
                logits = network(images)
            optimizer.zero_grad()
            loss_of(logits, masks).backward()
            optimizer.step()

        return step

    def _per_second(self, step: Callable[[], object]) -> float:
        """Time steps after two to warm up."""
        wait = torch.cuda.synchronize if self.resolved.device == "cuda" else lambda: None
        for _ in range(2):
            step()
        wait()
        started = time.perf_counter()
        for _ in range(STEPS):
            step()
        wait()
        return STEPS * self.batch / (time.perf_counter() - started)


class Between:
    """Other work, done between the pieces of some work and timed apart; none if it is None."""

    def __init__(self, work: Callable[[], object] | None) -> None:
        self.work = work
        self.seconds = 0.0
        self.count = 0

    def __call__(self) -> None:
        if self.work is not None:
            started = time.perf_counter()
            self.work()
            self.seconds += time.perf_counter() - started
            self.count += 1

    @property
    def rate(self) -> float:
        """How often a second."""
        return self.count / self.seconds if self.count else math.nan


class _Timed(Trainer):
    """All epochs but the last are short; notes how long that takes, less validation."""

    seconds = 0.0
    between: Between

    def train_epoch(self) -> None:
        last = self.state.epoch == self.recipe.num_epochs - 1
        self.data.batches.num_steps = EPOCH if last else 1
        self.between.seconds, self.between.count = 0.0, 0
        started = time.perf_counter()
        super().train_epoch()
        self.seconds = time.perf_counter() - started

    def train_step(self, batch: Batch) -> None:
        super().train_step(batch)
        self.between()

    def end_epoch(self, found: Validation) -> None:
        started = time.perf_counter()
        super().end_epoch(found)
        self.seconds += time.perf_counter() - started


INFO = DatasetInfo(
    name="bench",
    classes=("background", "blob"),
    licence="none",
    redistributable=True,
    citation="",
)


def generate(root: Path, number: int, files: int) -> None:
    """Packed pairs of blobs on a textured ground; the first of them as PNG files too."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    header = Header(INFO, SIZE, SIZE, 3, "")
    ids = [f"{at:06d}" for at in range(number)]
    samples = pd.DataFrame({"id": ids, "group": ids, "stratum": "", "copy": 0})
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    ground = cv2.GaussianBlur(rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8), (0, 0), 2)
    with ArrayWriter(root / "arrays", header, samples) as writer:
        for at, id in enumerate(ids):
            row, column, radius = rng.integers(SIZE // 8, SIZE - SIZE // 8, 3)
            mask = (np.hypot(rows - row, columns - column) < radius / 4).astype(np.uint8)
            image = np.roll(ground, int(row), 0) // 2 + 90 * mask[..., None]
            writer.write(at, image, mask)
            if at < files:
                cv2.imwrite(str(root / "images" / f"{id}.png"), image)
                cv2.imwrite(str(root / "masks" / f"{id}.png"), mask)


def compare(bench: Bench) -> dict[str, float]:
    """Images a second in each way, and their ratios: medians over rounds."""
    rounds = []
    for _ in range(ROUNDS):
        shipped, limit = bench.trained()
        plain = apart(bench.params, "plain", bench.candidate.encoder, str(bench.root))
        rounds.append(
            {
                **{"shipped": shipped, "limit": limit, "over_limit": shipped / limit},
                **{"plain": plain, "over_plain": shipped / plain},
            }
        )
    return {name: statistics.median(row[name] for row in rounds) for name in rounds[0]}


def apart(params: Params, *what: str) -> float:
    """What a process of its own measures."""
    command = [sys.executable, __file__, *sys.argv[1:2], str(params.train.batch_size), *what]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def peak_mib(params: Params, number: int) -> float:
    """Peak memory of this process and its worker, over an epoch of so many packed pairs of half the
    size, since it is data that counts."""
    global EPOCH, SIZE
    SIZE = SIZE // 2
    with TemporaryDirectory() as temporary:
        generate(Path(temporary), number, 0)
        EPOCH = number // params.train.batch_size
        light = {"architecture_args": {"decoder_channels": [8] * 5}}
        small = params.model_copy(update={"model": params.model.model_copy(update=light)})
        Bench(small, ENCODERS[0], Path(temporary)).shipped()
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + workers) / 1024


def main(params: Params) -> None:
    resolved: ResolvedHardware = resolve(params.hardware)
    prepare(resolved)
    batch = params.train.batch_size
    results: dict[str, object] = {"hardware": asdict(resolved), "batch_size": batch}
    # First, since a process counts as its own peak what the one that began it had in memory.
    few, many = (apart(params, "peak", str(number)) for number in (FEW, MANY))
    results["peak_mib"] = {FEW: few, MANY: many, "many_over_few": many / few}
    print(f"(c) peak memory: {few:.0f} MiB for {FEW} pairs, {many:.0f} MiB for {MANY}", flush=True)
    print(
        f"{'encoder':<20}{'shipped':>9}{'limit':>8}{'plain':>8}{'(a)':>7}{'(b)':>7}"
        "   images/s and their ratios",
        flush=True,
    )
    with TemporaryDirectory() as temporary:
        generate(Path(temporary), FEW, 200)
        for encoder in ENCODERS:
            row = compare(Bench(params, encoder, Path(temporary)))
            results[encoder] = row
            print(
                f"{encoder:<20}{row['shipped']:>9.1f}{row['limit']:>8.1f}{row['plain']:>8.1f}"
                f"{row['over_limit']:>7.2f}{row['over_plain']:>7.2f}",
                flush=True,
            )
    print(json.dumps({"bench": results}))


def configured(path: Path, batch: int) -> Params:
    params = load_params(path)
    return params.model_copy(
        update={
            "augment": params.augment.model_copy(update={"height": SIZE, "width": SIZE}),
            "model": params.model.model_copy(update={"architecture_args": {}}),
            "train": params.train.model_copy(update={"batch_size": batch}),
            "evaluate": params.evaluate.model_copy(update={"batch_size": batch}),
        }
    )


if __name__ == "__main__":
    asked = configured(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8)
    match sys.argv[3:]:
        case "plain", encoder, root:
            print(Bench(asked, encoder, Path(root)).plain())
        case "peak", number:
            prepare(resolve(asked.hardware))
            print(peak_mib(asked, int(number)))
        case _:
            main(asked)
