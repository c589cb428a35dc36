"""Speed and memory of evaluation, as ratios measured in one run.

    (a) evaluation with all default metrics, boundaries, files and the choice of a threshold
        included, over forward only on one batch that is already there: with one foreground class,
        and with 20
    (b) peak memory of the stage evaluate on 2,000 images in validation and as many in test, over
        that on a tenth of them: with 2 classes, and with 20

Speeds are those of a U-Net with MobileNetV2 at 256x256, trained for a moment, since the outlines of
what an untrained network says are those of noise, and as long. On a CPU batches of both alternate,
so that a machine that slows down for a while does not decide. Memory is that of processes of their
own, on a light network and smaller images, since it is the number that counts. Needs neither DVC
nor MLflow.

    python benchmarks/evaluation.py params.yaml
"""

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn

from segbench.arrays.batches import PlainBatches
from segbench.arrays.store import ArrayWriter, Header, open_arrays, write_header
from segbench.datasets.canonical import DatasetInfo
from segbench.devices import prepare, resolve
from segbench.evaluation.evaluate import evaluate
from segbench.evaluation.outputs import writing_predictions
from segbench.evaluation.predict import Truths
from segbench.evaluation.scoring import select_and_score
from segbench.files import sha256_of
from segbench.images import Pixels, encode_mask
from segbench.labels import LabelScheme
from segbench.metrics.probabilities import LEVELS
from segbench.models.network import SegmentationNetwork, build_network, save_network
from segbench.params import Params
from segbench.params.model import Candidate
from segbench.tracking import follower
from segbench.tracking.records import Record, Run, now_ms
from segbench.training.losses import WeightedLoss
from training import SIZE, Between, configured

ROUNDS = 3
SPEED_CLASSES = (2, 21)
"""One foreground class, and twenty."""
NUM_TIMED = 64
"""Images of a split."""
TRAINING_STEPS = 40
MEMORY_CLASSES = (2, 20)
FEW, MANY = 200, 2_000
SPLITS = ("val", "test")


def scene(rng: np.random.Generator, size: int, num_classes: int) -> tuple[Pixels, Pixels]:
    """An image (size, size, 3) and its mask: a blob, or with many classes a dozen of overlapping
    things of any sizes, each class in its colour."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(1 if num_classes == 2 else 12):
        centre = rng.integers(0, size, 2).tolist()
        axes = rng.integers(size // 20, size // 4, 2).tolist()
        class_id = int(rng.integers(1, num_classes))
        cv2.ellipse(mask, centre, axes, int(rng.integers(180)), 0, 360, class_id, -1)
    colours = np.random.default_rng(1).integers(0, 255, (num_classes, 3))
    noise = cv2.GaussianBlur(rng.normal(0, 80, (size, size, 3)), (0, 0), 2)
    return (colours[mask] + noise).clip(0, 255).astype(np.uint8), mask


def generate(root: Path, number: int, size: int, num_classes: int) -> None:
    """A canonical dataset of so many images in validation and in test, and its packed arrays."""
    names = tuple(f"class {at}" for at in range(num_classes))
    info = DatasetInfo("bench", names, "none", True, "", background=0)
    header = Header(info, size, size, 3, "0" * 64)
    (root / "dataset/masks").mkdir(parents=True)
    rng, every = np.random.default_rng(0), []
    for split in SPLITS:
        ids = [f"{split}{at:05d}" for at in range(number)]
        samples = pd.DataFrame({"id": ids, "group": ids, "stratum": "", "copy": 0})
        with ArrayWriter(root / "arrays/fold0" / split, header, samples) as writer:
            for at, id in enumerate(ids):
                image, mask = scene(rng, size, num_classes)
                writer.write(at, image, mask)
                (root / f"dataset/masks/{id}.png").write_bytes(encode_mask(mask))
        every += ids
    write_header(root / "arrays", header)
    shutil.copy(root / "arrays/dataset.json", root / "dataset")
    table = pd.DataFrame({"id": every, "mask": [f"masks/{id}.png" for id in every]})
    table.to_csv(root / "dataset/samples.csv", index=False)


def build(params: Params, encoder: str, num_classes: int) -> SegmentationNetwork:
    torch.manual_seed(0)
    candidate = Candidate(
        encoder=encoder,
        encoder_args={},
        weights="none",
        weights_sha256=None,
        input_scaling="imagenet",
        train_share=1.0,
    )
    return build_network(params.model, candidate, num_classes if num_classes > 2 else 1)


class Followed(nn.Module):
    """A network with other work after each of its batches."""

    def __init__(self, network: nn.Module, between: Between) -> None:
        super().__init__()
        self.network = network
        self.between = between

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        self.between()
        return logits


def speeds(params: Params, num_classes: int, root: Path) -> list[tuple[float, float]]:
    """Images a second of evaluation and of forward only, in each round."""
    device = resolve(params.hardware).device
    generate(root, NUM_TIMED, SIZE, num_classes)
    splits = {name: open_arrays(root / "arrays/fold0" / name) for name in SPLITS}
    network = build(params, "mobilenet_v2", num_classes).to(device)
    network = network.to(memory_format=torch.channels_last)
    train(network, num_classes, PlainBatches(splits["val"], params.train.batch_size))
    network.eval()
    images, _ = next(iter(PlainBatches(splits["val"], params.evaluate.batch_size)))
    images = images.to(device)
    # No level of 256, lest the best threshold be this one, and masks of one kind be scored.
    asked = params.evaluate.model_copy(update={"threshold": 0.5 + 0.5 / LEVELS})
    found = []
    for _ in range(ROUNDS):
        between = Between((lambda: network(images)) if device == "cpu" else None)
        started = time.perf_counter()
        with writing_predictions(root / "predictions.zip") as write:
            select_and_score(
                *(asked, {False: Followed(network, between)}, splits, Truths(root / "dataset")),
                *(LabelScheme(num_classes, 0), root, write, device != "cpu"),
            )
        seconds = time.perf_counter() - started - between.seconds
        forward = between.rate * len(images)
        if device != "cpu":
            forward = forward_only(network, images)
        found.append((len(SPLITS) * NUM_TIMED / seconds, forward))
    return found


def train(network: SegmentationNetwork, num_classes: int, batches: PlainBatches) -> None:
    """A moment of it, in float32."""
    several = num_classes > 2
    loss_of = WeightedLoss({"ce" if several else "bce": 1.0}, num_classes if several else 1)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    device, done = next(network.parameters()).device, 0
    while done < TRAINING_STEPS:
        for images, masks in batches:
            optimizer.zero_grad()
            loss_of(network(images.to(device)), masks.to(device)).backward()
            optimizer.step()
            done += 1


@torch.no_grad()
def forward_only(network: nn.Module, images: torch.Tensor) -> float:
    """Images a second on a GPU."""
    for _ in range(2):
        network(images)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(10):
        network(images)
    torch.cuda.synchronize()
    return 10 * len(images) / (time.perf_counter() - started)


def peak_mib(params: Params, num_classes: int, root: Path) -> float:
    """Peak memory of this process, over the stage."""
    follower.Follower = NoFollower  # type: ignore[misc,assignment]
    (root / "trained").mkdir()
    light = {"architecture_args": {"decoder_channels": [8] * 5}}
    params = params.model_copy(update={"model": params.model.model_copy(update=light)})
    network = build(params, "tu-mobilenetv2_035", num_classes)
    weights = root / "trained/weights.safetensors"
    save_network(network, weights)
    content = {"rollbacks": 0, "weights_sha256": sha256_of(weights)}
    (root / "run.json").write_text(json.dumps(content))
    with Record(root / "trained/record", Run("a" * 32, "train", "bench", "bench", now_ms())):
        pass
    evaluate(
        *(params, root / "trained", root / "run.json", root / "dataset", root / "arrays", 0),
        *(root / "out", root / "scores.json"),
    )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class NoFollower:
    """In place of the process that replays a record into MLflow."""

    def follow(self, folder: Path) -> None:
        pass

    def wait(self, max_wait_s: float) -> bool:
        return True

    reached = wait

    def end(self) -> None:
        pass


def apart(num_classes: int, number: int) -> float:
    """The peak memory of a process of its own."""
    with TemporaryDirectory() as temporary:
        # Made here, so that it is no part of what is measured.
        generate(Path(temporary), number, SIZE // 2, num_classes)
        command = [sys.executable, __file__, *sys.argv[1:2], "peak", str(num_classes), temporary]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main(params: Params) -> None:
    resolved = resolve(params.hardware)
    prepare(resolved)
    results: dict[str, object] = {"hardware": asdict(resolved)}
    for num_classes in MEMORY_CLASSES:
        # First, since a process counts as its own peak what the one that began it had in memory.
        few, many = (apart(num_classes, number) for number in (FEW, MANY))
        results[f"peak_mib_{num_classes}"] = {FEW: few, MANY: many, "many_over_few": many / few}
        print(
            f"(b) {num_classes} classes: peak memory {few:.0f} MiB for {FEW} images, "
            f"{many:.0f} MiB for {MANY}: {many / few:.2f}",
            flush=True,
        )
    for num_classes in SPEED_CLASSES:
        with TemporaryDirectory() as temporary:
            rounds = speeds(params, num_classes, Path(temporary))
        evaluated, forward = (statistics.median(part) for part in zip(*rounds, strict=True))
        ratio = statistics.median(one / other for one, other in rounds)
        results[f"speed_{num_classes - 1}"] = {
            **{"evaluated": evaluated, "forward": forward, "evaluated_over_forward": ratio}
        }
        print(
            f"(a) foreground classes: {num_classes - 1}, {evaluated:.1f} images/s, "
            f"forward only {forward:.1f}: {ratio:.2f}",
            flush=True,
        )
    print(json.dumps({"bench": results}))


if __name__ == "__main__":
    asked = configured(Path(sys.argv[1]), 8)
    match sys.argv[2:]:
        case "peak", classes, root:
            prepare(resolve(asked.hardware))
            print(peak_mib(asked, int(classes), Path(root)))
        case _:
            main(asked)
