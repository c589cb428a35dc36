"""Speed and memory of ingest, split and packing, as ratios measured in one run.

    (c) ingest, split and packing, less the leak audit, over a bare loop that makes the same two
        passes over the same files on the same cores: decode and check nothing, copy the image,
        encode the mask; then decode both, resize, write
    (d) memory of the largest number of images over that of a tenth of them
    (e) seconds that the leak audit takes, and how it grows
    (f) seconds and memory that `segbench init` takes to describe the folder, which it samples

Once with PNG images and once with JPEG, whose decoding leaves less time to hide in. Each
measurement is a process of its own; the bare loop runs before and after, and counts with its mean.
"""

import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from PIL import Image

from segbench.arrays.augment import augment
from segbench.datasets.canonical import read_samples, read_table
from segbench.datasets.download import download
from segbench.onboarding.guess import guess_dataset
from segbench.parallel import num_cores, thread_map
from segbench.params import load_params
from segbench.params.datasets import Folder
from segbench.splits.duplicates import find_duplicates
from segbench.splits.split import SplitPaths, split

NUM_IMAGES = 10_000
HEIGHT, WIDTH = 384, 512
FRAMES = 5
"""Images that share a scene, as in a video."""


def main(path: Path, number: int) -> None:
    results: dict[str, Any] = {}
    for kind in ("png", "jpg"):
        with TemporaryDirectory() as temporary:
            root = Path(temporary)
            generate(root / "many", number, kind)
            generate(root / "few", number // 10, kind)
            described = measure("described", path, root / "many", kind)
            described_few = measure("described", path, root / "few", kind)
            few = measure("ours", path, root / "few", kind)
            before = measure("bare", path, root / "many", kind)
            ours = measure("ours", path, root / "many", kind)
            after = measure("bare", path, root / "many", kind)
        bare = (before["seconds"] + after["seconds"]) / 2
        stages = ours["download"] + ours["split"] + ours["augment"]
        results[kind] = {
            "images": number,
            "bare_images_per_s": number / bare,
            "images_per_s": number / stages,
            "over_bare": bare / (stages - ours["audit"]),
            "over_bare_with_audit": bare / stages,
            "bare_apart": abs(before["seconds"] - after["seconds"]) / bare,
            "mib": ours["mib"],
            "mib_of_a_tenth": few["mib"],
            "mib_of_imports": ours["mib_of_imports"],
            "audit_s": ours["audit"],
            "audit_of_a_tenth_s": few["audit"],
            "init_s": described["seconds"],
            "init_of_a_tenth_s": described_few["seconds"],
            "init_mib": described["mib"],
        }
        row = results[kind]
        print(
            f"{kind}: {number} images of {WIDTH}x{HEIGHT}\n"
            f"  (c) {row['over_bare']:.2f} of a bare loop, {row['over_bare_with_audit']:.2f} with "
            f"the leak audit ({row['bare_images_per_s']:.0f} images/s, its two runs "
            f"{row['bare_apart']:.0%} apart)\n"
            f"  (d) {row['mib']:.0f} MiB against {row['mib_of_a_tenth']:.0f} of a tenth of them; "
            f"imports alone take {row['mib_of_imports']:.0f}\n"
            f"  (e) leak audit {row['audit_s']:.1f} s against {row['audit_of_a_tenth_s']:.1f} s\n"
            f"  (f) init {row['init_s']:.1f} s against {row['init_of_a_tenth_s']:.1f} s, "
            f"{row['init_mib']:.0f} MiB",
            flush=True,
        )
    print(json.dumps({"bench": results}))


def generate(folder: Path, number: int, kind: str) -> None:
    """Scenes of smooth texture and noise with a bright blob, a few frames of each."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)

    def work(scene: int) -> None:
        rng = np.random.default_rng(scene)
        coarse = rng.uniform(40, 200, (9, 12, 3)).astype(np.float32)
        size = (WIDTH + 64, HEIGHT + 64)
        wall = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        wall += rng.normal(0, 4, wall.shape).astype(np.float32)
        for frame in range(FRAMES):
            left, top = rng.integers(0, 64, 2)
            image = wall[top : top + HEIGHT, left : left + WIDTH].copy()
            centre = (int(rng.integers(100, WIDTH - 100)), int(rng.integers(100, HEIGHT - 100)))
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            cv2.ellipse(mask, centre, (60, 40), float(rng.uniform(0, 180)), 0, 360, 255, -1)
            image[mask > 0] += 40
            pixels = image.clip(0, 255).astype(np.uint8)
            name = f"scene{scene:05d}_{frame}"
            cv2.imwrite(str(folder / "images" / f"{name}.{kind}"), pixels)
            cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)

    for _ in thread_map(work, range(number // FRAMES), f"generate {kind}", number // FRAMES):
        pass


def measure(what: str, path: Path, root: Path, kind: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, str(path), what, str(root), kind]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def ours(path: Path, root: Path, kind: str) -> dict[str, float]:
    """The three stages, as dvc.yaml runs them, and the part of the second that looks for leaks."""
    params = load_params(path)
    data = Folder.model_validate(
        {
            "name": "folder",
            "title": "bench",
            "source": str(root),
            "watch": True,
            "images": f"images/{{id}}.{kind}",
            "masks": "masks/{id}.png",
            "classes": ["background", "blob"],
            "mask": {"threshold": 128, "invert": False},
            "group": {"pattern": r"^(scene\d+)_"},
            **dict.fromkeys(
                ("ignore", "stratum", "split", "bands", "value_range", "spacing", "foreground")
            ),
            "exif": "turn",
            "licence": "none",
            "redistributable": False,
            "citation": "",
            "published": 0,
            "limits": {
                "megapixels": 100,
                "unpacked_gib": 1,
                "size_difference": 0,
                "on_bad_pair": "error",
            },
        }
    )
    imports = memory()
    out = root / "ours"
    names = ("split.csv", "split.json", "audit.html", "audit")
    marks = [time.perf_counter()]
    download(data, out / "dataset")
    marks.append(time.perf_counter())
    paths = SplitPaths(*(out / name for name in names))
    split(out / "dataset", params.split, params.report, params.augment, paths)
    marks.append(time.perf_counter())
    augment(
        *(out / "dataset", out / "split.csv", params.augment, out / "arrays"), out / "preview.png"
    )
    marks.append(time.perf_counter())
    most = memory()
    samples, measures = read_samples(out / "dataset"), read_table(out / "dataset" / "measures.csv")
    find_duplicates(out / "dataset", samples, measures, params.split.near_duplicate)
    audit = time.perf_counter() - marks[-1]
    stages = dict(zip(("download", "split", "augment"), np.diff(marks).tolist(), strict=True))
    return {**stages, "audit": audit, "mib": most, "mib_of_imports": imports}


def described(path: Path, root: Path, kind: str) -> dict[str, float]:
    """What `segbench init` does with a folder of images of this kind."""
    started = time.perf_counter()
    guess = guess_dataset(root, str(root), load_params(path).split.near_duplicate)
    assert guess.fields["images"].endswith(kind)
    return {"seconds": time.perf_counter() - started, "mib": memory()}


def bare(path: Path, root: Path, kind: str) -> dict[str, float]:
    """Two passes of a pool of threads, with nothing checked, measured or drawn."""
    size = load_params(path).augment
    out = root / "bare"
    for name in ("images", "masks"):
        (out / name).mkdir(parents=True, exist_ok=True)
    names = sorted(file.stem for file in (root / "images").iterdir())
    shape = (len(names), size.height, size.width)
    cv2.setNumThreads(1)

    def first(name: str) -> None:
        image_file, mask_file = root / "images" / f"{name}.{kind}", root / "masks" / f"{name}.png"
        np.asarray(Image.open(image_file))
        mask = (np.asarray(Image.open(mask_file)) >= 128).astype(np.uint8)
        (out / "images" / image_file.name).write_bytes(image_file.read_bytes())
        cv2.imwrite(str(out / "masks" / mask_file.name), mask)

    def second(at: int) -> None:
        image = np.asarray(Image.open(out / "images" / f"{names[at]}.{kind}"))
        mask = np.asarray(Image.open(out / "masks" / f"{names[at]}.png"))
        to = (size.width, size.height)
        images[at] = cv2.resize(image, to, interpolation=cv2.INTER_AREA)
        masks[at] = cv2.resize(mask, to, interpolation=cv2.INTER_NEAREST_EXACT)

    started = time.perf_counter()
    with ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(first, names))
        images = np.lib.format.open_memmap(out / "images.npy", "w+", np.uint8, (*shape, 3))
        masks = np.lib.format.open_memmap(out / "masks.npy", "w+", np.uint8, shape)
        list(pool.map(second, range(len(names))))
    images.flush()
    masks.flush()
    return {"seconds": time.perf_counter() - started}


def memory() -> float:
    """The most that this process has held, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        work = {"ours": ours, "bare": bare, "described": described}[sys.argv[2]]
        print(json.dumps(work(Path(sys.argv[1]), Path(sys.argv[3]), sys.argv[4])))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else NUM_IMAGES)
