"""Speed of training as shipped, as ratios measured in one run.

    (a) over the compute limit: the same network, loss and optimiser stepping on one batch that is
        already there, in the same precision and layout
    (b) over a plain loop in the style of the common examples: PNG files decoded for each sample,
        the same augmentation, float32, NCHW

All three train the same network on the same images. Rounds alternate between them, and a ratio is
the median over rounds, so that a machine that slows down for a while does not decide.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import torch

from segbench import arrays
from segbench.auditing import Paths, split_and_audit
from segbench.augmentation import build_pipeline, vary
from segbench.batches import PlainBatches, TrainBatches
from segbench.datasets import download
from segbench.fitting import Fit, make_trainer, phases_of
from segbench.hardware import resolve
from segbench.models import SegmentationNetwork, build_network
from segbench.optimization import make_optimizer
from segbench.packing import augment
from segbench.params import Params, load_params
from segbench.params.datasets import SyntheticPolyps
from segbench.samples import read_pixels, read_samples

ROUNDS = 3
SEQUENCES, FRAMES = 25, 10


def main(path: Path) -> None:
    params = load_params(path)
    size = max(params.augment.height, params.augment.width)
    data = SyntheticPolyps(
        name="synthetic-polyps",
        seed=0,
        num_sequences=SEQUENCES,
        frames_per_sequence=FRAMES,
        height=size * 5 // 4,
        width=size * 5 // 4,
    )
    results = {}
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        download(data, root / "dataset")
        names = ("split.csv", "split.json", "audit.html", "audit")
        paths = Paths(*(root / name for name in names))
        split_and_audit(root / "dataset", params.split, "none", paths)
        augment(
            *(root / "dataset", root / "split.csv", params.augment, root / "arrays"),
            root / "preview.png",
        )
        print(
            f"{'candidate':<20}{'as shipped':>14}{'limit':>10}{'plain':>10}{'(a)':>8}{'(b)':>8}"
            "   images/s, then as shipped over limit and over plain"
        )
        for alias in params.comparison.candidates:
            results[alias] = compare(params, alias, root)
            row = results[alias]
            print(
                f"{alias:<20}{row['shipped']:>14.1f}{row['limit']:>10.1f}{row['plain']:>10.1f}"
                f"{row['over_limit']:>8.2f}{row['over_plain']:>8.2f}",
                flush=True,
            )
    print(json.dumps({"bench": results}))


def compare(params: Params, alias: str, root: Path) -> dict[str, float]:
    """Images per second of the three, medians over rounds, and the median of their ratios."""
    kinds: dict[str, Callable[[], float]] = {
        "shipped": partial(shipped, params, alias, root),
        "limit": partial(limit, params, alias, root),
        "plain": partial(plain, params, alias, root),
    }
    rounds = [{name: measure() for name, measure in kinds.items()} for _ in range(ROUNDS)]
    medians = {name: statistics.median(row[name] for row in rounds) for name in kinds}
    for other in ("limit", "plain"):
        ratios = [row["shipped"] / row[other] for row in rounds]
        medians[f"over_{other}"] = statistics.median(ratios)
    return medians


def build(params: Params, alias: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    candidate = params.candidates[alias]
    scratch = candidate.model_copy(update={"weights": "none", "weights_sha256": None})
    return build_network(params.model, scratch, num_outputs=1)


def shipped(params: Params, alias: str, root: Path) -> float:
    """An epoch of training as the train stage does it, after a first one to warm up."""
    part = arrays.open_arrays(root / "arrays" / "fold0" / "train")
    recipe = params.train.model_copy(update={"num_epochs": 2})
    fit = Fit(build(params, alias), recipe, num_classes=2, threshold=0.5)
    vary_one = partial(vary, build_pipeline(params.augment))
    batches = TrainBatches(part, recipe.batch_size, vary_one, 0, lambda: fit.current_epoch)
    val = PlainBatches(arrays.open_arrays(root / "arrays" / "fold0" / "val"), recipe.batch_size)
    phase = phases_of(recipe)[0]
    fit.begin(phase, params.augment.height, params.augment.width)
    make_trainer(recipe, phase, resolve(recipe)).fit(fit, batches, val)
    return len(batches) * batches.batch_size / fit.train_seconds


def limit(params: Params, alias: str, root: Path) -> float:
    """Forward, backward and step on one resident batch: what the arithmetic alone allows."""
    part = arrays.open_arrays(root / "arrays" / "fold0" / "train")
    resolved = resolve(params.train)
    fit = Fit(build(params, alias), params.train, num_classes=2, threshold=0.5)
    fit.to(resolved.device)
    optimizer = make_optimizer(
        fit.network, params.train.optimizer, params.train.optimizer.learning_rate
    )
    batches = TrainBatches(part, params.train.batch_size, None, 0, lambda: 0)
    images, masks = (tensor.to(resolved.device) for tensor in next(iter(batches)))
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(resolved.precision)

    def step() -> None:
        with torch.autocast(resolved.device, kind, enabled=kind is not None):
            loss = fit.loss(fit.network(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return images_per_second(step, len(batches), batches.batch_size, resolved.device)


def plain(params: Params, alias: str, root: Path) -> float:
    """Decode, resize and vary each sample when it is needed; float32, NCHW."""
    table = read_samples(root / "dataset")
    pipeline = build_pipeline(params.augment)
    size = (params.augment.width, params.augment.height)
    device = resolve(params.train).device
    network = build(params, alias).to(device)
    fit = Fit(network, params.train, num_classes=2, threshold=0.5).to(device)
    network.to(memory_format=torch.contiguous_format)
    optimizer = make_optimizer(
        network, params.train.optimizer, params.train.optimizer.learning_rate
    )
    batch = params.train.batch_size
    rows = cycle(table.itertuples())

    def step() -> None:
        images, masks = [], []
        for _ in range(batch):
            row = next(rows)
            image = cv2.resize(read_pixels(root / "dataset" / row.image), size)
            mask = cv2.resize(
                read_pixels(root / "dataset" / row.mask), size, interpolation=cv2.INTER_NEAREST
            )
            varied = pipeline(image=image, mask=mask)
            images.append(torch.from_numpy(varied["image"].transpose(2, 0, 1).copy()).float())
            masks.append(torch.from_numpy(varied["mask"].copy()))
        loss = fit.loss(network(torch.stack(images).to(device)), torch.stack(masks).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return images_per_second(step, 12, batch, device)


def images_per_second(step: Callable[[], None], steps: int, batch: int, device: str) -> float:
    """Time steps after two to warm up."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(2):
        step()
    wait()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return steps * batch / (time.perf_counter() - started)


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    main(Path(sys.argv[1]))
