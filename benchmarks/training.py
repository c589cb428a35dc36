"""Speed of training and evaluation as shipped, as ratios measured in one run.

    (a) a training epoch, with its checkpoint and its record, over the compute limit: the same
        network, loss and optimiser stepping on one batch that is already there, in the same
        precision and layout
    (b) over a plain loop in the style of the common examples, in a process of its own with torch as
        it comes: PNG files decoded for each sample, the same augmentation, float32, NCHW
    (c) evaluation with all default metrics, boundaries and a chosen threshold included, over
        forward only, on one batch that is already there
    (e) peak memory of the training process, and of one on twenty times the data

All train the same network on the same images. Rounds alternate between them, and a ratio is the
median over rounds, so that a machine that slows down for a while does not decide. Needs neither DVC
nor MLflow.

    python benchmarks/training.py params.yaml [BATCH_SIZE]
"""

import json
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

from segbench.arrays import Arrays, Header, Writer, open_arrays
from segbench.augmentation import build_pipeline, vary
from segbench.batches import PlainBatches, TrainBatches
from segbench.checkpoints import Checkpoints
from segbench.deciding import Rule
from segbench.evaluation import look, score
from segbench.fitting import Fit
from segbench.hardware import Resolved, prepare, resolve
from segbench.losses import WeightedLoss
from segbench.models import SegmentationNetwork, build_network
from segbench.optimization import make_optimizer
from segbench.params import Candidate, Params, load_params
from segbench.processes import make_fabric
from segbench.records import Record, Run, now_ms
from segbench.samples import Info, Pixels
from segbench.scoring import Scorer
from segbench.validation import Validated

ENCODERS = ("tu-mobilenetv2_035", "mobilenet_v2", "resnet18", "resnet50")
SIZE = 256
ROUNDS = 3
EPOCH = 32
"""Steps of an epoch as shipped; CVC-ClinicDB's 490 training images make 61."""
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
        )
        self.root = root
        self.arrays = open_arrays(root / "arrays")
        self.resolved = resolve(params.hardware)
        self.fabric = make_fabric(self.resolved)
        self.batch = params.train.batch_size
        self._trained: dict[str, torch.Tensor] = {}

    def network(self) -> SegmentationNetwork:
        torch.manual_seed(0)
        return build_network(self.params.model, self.candidate, 1).to(self.resolved.device)

    def fast_network(self) -> SegmentationNetwork:
        return self.network().to(memory_format=self.resolved.memory_format)

    def resident(self) -> tuple[torch.Tensor, torch.Tensor]:
        images, masks = next(iter(PlainBatches(self.arrays, self.batch)))
        return images.to(self.resolved.device), masks.to(self.resolved.device)

    def shipped(self) -> float:
        """An epoch as the train stage has it, less validation, after some of a single step.

        In the first the worker is forked, here from a process with memory to copy; and from the
        fourth on a checkpoint's file is used again.
        """
        recipe = self.params.train.model_copy(update={"num_epochs": 5})
        batches = TrainBatches(
            self.arrays,
            self.batch,
            partial(vary, build_pipeline(self.params.augment)),
            0,
            EPOCH,
            self.resolved.workers,
            pinned=self.resolved.device == "cuda",
        )
        run = Run("a" * 32, "train", "bench", "bench", now_ms())
        with TemporaryDirectory() as folder, Record(Path(folder) / "record", run) as record:
            fit = _Timed(self.fabric, self.fast_network(), recipe, 2, 0.5, SIZE, SIZE)
            checkpoints = Checkpoints(Path(folder) / "checkpoints", "key")
            fit.bind(run.name, record, checkpoints, self.params.checkpoints)
            few = Arrays(self.arrays.images[:8], self.arrays.masks[:8], self.arrays.samples[:8])
            fit.run(batches, PlainBatches(few, 8))
            self._trained = fit.network.state_dict()
        return EPOCH * self.batch / fit.seconds

    def limit(self) -> float:
        """Forward, backward and step on one resident batch: what the arithmetic alone allows."""
        network = self.fast_network()
        images, masks = self.resident()
        kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(
            self.resolved.precision
        )
        return self._steps(network, lambda: (images, masks), kind)

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

        return self._steps(self.network(), load, None)

    def _steps(
        self,
        network: SegmentationNetwork,
        load: Callable[[], tuple[torch.Tensor, torch.Tensor]],
        kind: torch.dtype | None,
    ) -> float:
        loss_of = WeightedLoss(self.params.train.loss, 1)
        rate = self.params.train.optimizer.learning_rate
        optimizer = make_optimizer(network, self.params.train.optimizer, rate)

        def step() -> None:
            images, masks = load()
            with torch.autocast(self.resolved.device, kind, enabled=kind is not None):
                logits = network(images)
            optimizer.zero_grad()
            loss_of(logits, masks).backward()
            optimizer.step()

        return self._per_second(step)

    def evaluated(self) -> float:
        """Prediction and all default scores of a split, by a plain and by a chosen threshold.

        By the network that was trained before: the outlines of what an untrained one says are those
        of noise, and as long.
        """
        network = self.network()
        network.load_state_dict(self._trained)
        network = network.to(memory_format=torch.channels_last).eval()
        part = slice(STEPS * self.batch)
        split = Arrays(self.arrays.images[part], self.arrays.masks[part], self.arrays.samples[part])
        plain, chosen = (Rule(threshold, 0, False, False) for threshold in (0.5, 0.4))
        scorer = Scorer(2, self.params.evaluate.tolerance, plain, chosen, [])

        def work() -> None:
            score(scorer, look(network, split, _Packed(split), self.batch, 0.5))

        work()
        started = time.perf_counter()
        work()
        return len(split.images) / (time.perf_counter() - started)

    @torch.no_grad()
    def forward(self) -> float:
        """Forward only, in the same precision and layout as evaluation."""
        network = self.network().to(memory_format=torch.channels_last).eval()
        images, _ = self.resident()
        return self._per_second(lambda: network(images))

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


class _Packed:
    """Truths at their own size, which is that of the network."""

    def __init__(self, split: Arrays) -> None:
        self._masks = dict(zip(split.samples["id"], split.masks, strict=True))

    def read(self, id: str) -> Pixels:
        return np.array(self._masks[id])


class _Timed(Fit):
    """All epochs but the last are short; notes how long that takes, less validation."""

    seconds = 0.0

    def train_epoch(self) -> None:
        self._batches.num_steps = EPOCH if self.epoch == self.params.num_epochs - 1 else 1
        started = time.perf_counter()
        super().train_epoch()
        self.seconds = time.perf_counter() - started

    def end_epoch(self, found: Validated) -> None:
        started = time.perf_counter()
        super().end_epoch(found)
        self.seconds += time.perf_counter() - started


INFO = Info(
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
    with Writer(root / "arrays", header, samples) as writer:
        for at, id in enumerate(ids):
            row, column, radius = rng.integers(32, SIZE - 32, 3)
            mask = (np.hypot(rows - row, columns - column) < radius / 4).astype(np.uint8)
            image = np.roll(ground, int(row), 0) // 2 + 90 * mask[..., None]
            writer.write(at, image, mask)
            if at < files:
                cv2.imwrite(str(root / "images" / f"{id}.png"), image)
                cv2.imwrite(str(root / "masks" / f"{id}.png"), mask)


def compare(bench: Bench) -> dict[str, float]:
    """Images a second in each way, medians over rounds, and medians of their ratios."""
    kinds = {
        "limit": bench.limit,  # first, as it warms up
        "shipped": bench.shipped,
        "plain": lambda: apart(bench.params, "plain", bench.candidate.encoder, str(bench.root)),
        "evaluated": bench.evaluated,
        "forward": bench.forward,
    }
    rounds = [{name: measure() for name, measure in kinds.items()} for _ in range(ROUNDS)]
    found = {name: statistics.median(row[name] for row in rounds) for name in kinds}
    ratios = {
        "over_limit": ("shipped", "limit"),
        "over_plain": ("shipped", "plain"),
        "evaluated_over_forward": ("evaluated", "forward"),
    }
    for name, (upper, lower) in ratios.items():
        found[name] = statistics.median(row[upper] / row[lower] for row in rounds)
    return found


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
    resolved: Resolved = resolve(params.hardware)
    prepare(resolved)
    batch = params.train.batch_size
    results: dict[str, object] = {"hardware": asdict(resolved), "batch_size": batch}
    print(
        f"{'encoder':<20}{'shipped':>9}{'limit':>8}{'plain':>8}{'(a)':>7}{'(b)':>7}"
        f"{'evaluated':>11}{'forward':>9}{'(c)':>7}   images/s and their ratios",
        flush=True,
    )
    with TemporaryDirectory() as temporary:
        generate(Path(temporary), FEW, 200)
        for encoder in ENCODERS:
            row = compare(Bench(params, encoder, Path(temporary)))
            results[encoder] = row
            print(
                f"{encoder:<20}{row['shipped']:>9.1f}{row['limit']:>8.1f}{row['plain']:>8.1f}"
                f"{row['over_limit']:>7.2f}{row['over_plain']:>7.2f}{row['evaluated']:>11.1f}"
                f"{row['forward']:>9.1f}{row['evaluated_over_forward']:>7.2f}",
                flush=True,
            )
    few, many = (apart(params, "peak", str(number)) for number in (FEW, MANY))
    results["peak_mib"] = {FEW: few, MANY: many, "many_over_few": many / few}
    print(f"(e) peak memory: {few:.0f} MiB for {FEW} pairs, {many:.0f} MiB for {MANY}")
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
