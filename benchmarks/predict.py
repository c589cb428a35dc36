"""Speed and memory of `segbench predict`, as ratios measured in one run.

    (a) predicting images of mixed sizes, JPEG and PNG, with masks and overlays at each image's own
        size, the table and all checks, over bare work of the same kind on the same cores: the
        network forward on batches that are already there, then a pool of threads that decodes each
        file by OpenCV and encodes a mask and an overlay that are already there
    (b) peak memory on 2,000 images over that on 200

Speeds are those of a U-Net with MobileNetV2 at 256x256 by torch. Every measurement is a process of
its own; of (a) the bare work runs on a part of the images before and after, and counts with its
mean. Needs neither DVC nor MLflow.

    python benchmarks/predict.py params.yaml [IMAGES]
"""

import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch

from evaluation import build, scene, train
from evaluation import generate as generate_arrays
from segbench.arrays.batches import PlainBatches
from segbench.arrays.store import open_arrays
from segbench.delivery.finding import Source
from segbench.delivery.outputs import Wanted
from segbench.delivery.predict import predict_folder
from segbench.devices import prepare, resolve
from segbench.evaluation.evaluate import load_networks
from segbench.exports.formats import DataFormat
from segbench.exports.masks import MaskRule
from segbench.files import sha256_of
from segbench.models.network import save_network
from segbench.parallel import num_cores, thread_map
from segbench.params import Params, load_params

NUM_IMAGES = 2_000
FEWER = 10
"""Of which a part this small shows how memory grows."""
SIZES = ((240, 320), (288, 384), (480, 640), (600, 400), (720, 960), (1080, 1440))
"""Height and width."""
NETWORK = 256
BATCH = 16
NUM_TRAINED = 64


def generate(folder: Path, number: int) -> None:
    """Scenes with a blob, of the sizes in turn, every other one as PNG."""
    folder.mkdir(parents=True)

    def work(at: int) -> None:
        image, _ = scene(np.random.default_rng(at), NETWORK, 2)
        height, width = SIZES[at % len(SIZES)]
        large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        ending = ".png" if at // len(SIZES) % 2 else ".jpg"
        cv2.imwrite(str(folder / f"{at:05d}{ending}"), large)

    for _ in thread_map(work, range(number), "generate", number):
        pass


def make_model(params: Params, root: Path) -> None:
    """A network trained for a moment: what an untrained one says is noise, slow to draw."""
    resolved = resolve(params.hardware)
    prepare(resolved)
    generate_arrays(root, NUM_TRAINED, NETWORK, 2)
    network = build(params, "mobilenet_v2", 2).to(resolved.device)
    network = network.to(memory_format=torch.channels_last)
    train(network, 2, PlainBatches(open_arrays(root / "arrays/fold0/val"), BATCH))
    save_network(network.cpu(), root / "weights.safetensors")


def source_of(root: Path) -> Source:
    weights = root / "weights.safetensors"
    return Source(
        name="bench",
        files={"weights": weights},
        sha256=sha256_of(weights),
        classes=("background", "blob"),
        colours=("#000000", "#56de78"),
        background=0,
        channels=3,
        height=NETWORK,
        width=NETWORK,
        patches=None,
        rule=MaskRule(0.5, 0, False, False),
        data=DataFormat.of({}, 2),
    )


def ours(params: Params, root: Path, images: Path) -> dict[str, float]:
    """What `segbench predict` does, once its libraries are imported."""
    resolved = resolve(params.hardware)
    started = time.perf_counter()
    wanted = Wanted(overlays=True, probabilities=False)
    predict_folder(
        source_of(root), str(images), root / images.name / "out", resolved, BATCH, wanted
    )
    return {"seconds": time.perf_counter() - started, "mib": memory()}


def bare(params: Params, root: Path, images: Path) -> dict[str, float]:
    """Seconds that the network, and decoding and encoding, take for these images."""
    resolved = resolve(params.hardware)
    prepare(resolved)
    network = load_networks(root / "weights.safetensors", resolved.device)[False]
    files = sorted(path for path in images.iterdir() if path.is_file())
    batch = torch.randint(0, 256, (BATCH, NETWORK, NETWORK, 3), dtype=torch.uint8)
    batch = batch.permute(0, 3, 1, 2).to(resolved.device)
    with torch.no_grad():
        network(batch).cpu()
        started = time.perf_counter()
        for _ in range(-(-len(files) // BATCH)):
            network(batch).cpu()
    forward = time.perf_counter() - started
    masks, overlays = ready(root, images)
    cv2.setNumThreads(1)
    (root / "bare").mkdir(exist_ok=True)

    def work(path: Path) -> None:
        cv2.imread(str(path))
        size = SIZES[int(path.stem) % len(SIZES)]
        cv2.imwrite(str(root / "bare" / f"{path.stem}.png"), masks[size], PNG)
        cv2.imwrite(str(root / "bare" / f"{path.stem}.jpg"), overlays[size], JPEG)

    started = time.perf_counter()
    with ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(work, files))
    return {"forward": forward, "files": time.perf_counter() - started, "images": len(files)}


PNG = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_COMPRESSION, 1)
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 90)


def ready(root: Path, images: Path) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What was predicted of an image of each size: mask and overlay."""
    out, found = root / images.name / "out", ({}, {})
    for at, size in enumerate(SIZES):
        found[0][size] = cv2.imread(str(out / f"masks/{at:05d}.png"), cv2.IMREAD_UNCHANGED)
        found[1][size] = cv2.imread(str(out / f"overlays/{at:05d}.jpg"))
    return found


def memory() -> float:
    """The most that this process has held, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def measure(what: str, path: Path, root: Path, images: Path) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, str(path), what, str(root), str(images)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(path: Path, number: int) -> None:
    params = load_params(path)
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_model(params, root)
        many, few = root / "many", root / "few"
        generate(many, number)
        generate(few, number // FEWER)
        small = measure("ours", path, root, few)
        before = measure("bare", path, root, few)
        large = measure("ours", path, root, many)
        after = measure("bare", path, root, few)
    each = [(one["forward"] + one["files"]) / one["images"] for one in (before, after)]
    limit = sum(each) / 2
    results = {
        "hardware": asdict(resolve(params.hardware)),
        "images": number,
        "images_per_s": number / large["seconds"],
        "bare_images_per_s": 1 / limit,
        "over_bare": limit * number / large["seconds"],
        "bare_apart": abs(each[0] - each[1]) / limit,
        "forward_share": before["forward"] / (before["forward"] + before["files"]),
        "mib": large["mib"],
        "mib_of_a_tenth": small["mib"],
        "many_over_few": large["mib"] / small["mib"],
    }
    print(
        f"(a) {number} images of mixed sizes: {results['images_per_s']:.1f} images/s, "
        f"{results['over_bare']:.2f} of forward, bare decode and encode "
        f"({results['bare_images_per_s']:.1f}, its two runs {results['bare_apart']:.0%} apart, "
        f"{results['forward_share']:.0%} of it forward)\n"
        f"(b) peak memory {large['mib']:.0f} MiB, {small['mib']:.0f} for a tenth of them: "
        f"{results['many_over_few']:.2f}",
        flush=True,
    )
    print(json.dumps({"bench": results}))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        work = {"ours": ours, "bare": bare}[sys.argv[2]]
        print(json.dumps(work(load_params(Path(sys.argv[1])), *map(Path, sys.argv[3:]))))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else NUM_IMAGES)
