"""The digits of small runs: what a refactoring must not change.

    python benchmarks/digits.py [KIND...] > digits.txt

Runs the commands of dvc.yaml, stage by stage in this process, on a few small images for every kind
of recipe, and prints the sha256 of what came out: splits, arrays, weights, histories, scores and
the leaderboard. The same machine, versions and thread count print the same lines; compare two
commits with `diff`.
"""

import hashlib
import itertools
import os
import re
import runpy
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
HASHED = (
    *("reports/split.csv", "data/arrays/**/*.npy", "data/train/*/weights.safetensors"),
    *("reports/history/*.csv", "reports/metrics/*.json", "reports/comparison.csv"),
)
Tree = dict[str, Any]


def whole(tree: Tree) -> None:
    """Whole images, two seeds."""
    tree["comparison"]["seeds"] = [0, 1]


def patches(tree: Tree) -> None:
    """Overlapping patches, stored copies, a published architecture."""
    tree["augment"].update(patches={"height": 48, "width": 48, "overlap": 16}, copies=1)
    tree["model"].update(architecture="cvc-mobilenetv2", architecture_args={})
    tree["comparison"]["candidates"] = ["mobilenetv2_035"]


def classes(tree: Tree) -> None:
    """Three classes of one's own files, grouped and stratified by name."""
    make_folder(Path("own"))
    limits = {"megapixels": 1, "unpacked_gib": 1, "size_difference": 0, "on_bad_pair": "error"}
    tree["dataset"] = {
        **{"name": "folder", "title": "shapes", "source": "own", "images": "images/{id}.png"},
        **{"masks": "masks/{id}.png", "classes": ["background", "disc", "box"], "background": 0},
        **{"mask": {"values": {0: 0, 1: 1, 2: 2, 255: 255}}, "group": {"pattern": "^(g[0-9]+)"}},
        **{"stratum": {"pattern": "_([ab])"}, "split": None, "value_range": None, "spacing": None},
        **{"ignore": None, "bands": None},
        **{"exif": "turn", "watch": True},
        **{"foreground": None, "licence": "made", "redistributable": True},
        **{"citation": "", "published": 0, "limits": limits},
    }
    tree["train"]["loss"] = {"dice": 1.0, "ce": 1.0}
    tree["evaluate"]["extra_metrics"] = ["calibration", "pranet", "v_rand"]


def no_background(tree: Tree) -> None:
    """The same classes, all of which count."""
    classes(tree)
    tree["dataset"].update(classes=["wall", "disc", "box"], background=None)


def folds(tree: Tree) -> None:
    """Cross-validation."""
    tree["split"].update(num_folds=3, test_share=None)
    tree["comparison"].update(candidates=["mobilenetv2_035"], folds=[0, 2])


def tuning(tree: Tree) -> None:
    """A learning rate for each run."""
    tree["comparison"]["tuning"] = {"learning_rates": [1e-3, 1e-2], "share": 0.5}


def fine_tune(tree: Tree) -> None:
    """Two phases, averaged weights, and all that evaluation can choose."""
    stopping = {"patience": 1, "min_delta": 0.0, "min_epochs": 1}
    for candidate in tree["candidates"].values():
        candidate["weights"] = "random"
    tree["train"].update(
        freeze_encoder="all",
        fine_tune={
            **{"freeze_encoder": "blocks.2", "num_epochs": 2, "learning_rate": 1e-4},
            "early_stopping": stopping,
        },
        ema_decay=0.9,
        keep="best_loss",
        gradient_clip={"by": "parameter_norm", "limit": 1.0},
        steps_per_epoch=7,
    )
    tree["train"]["schedule"]["name"] = "plateau"
    tree["evaluate"]["flips"] = True
    tree["evaluate"]["choose"] = {
        **{"threshold": True, "min_sizes": [20], "largest": True, "flips": True}
    }
    tree["comparison"]["candidates"] = ["mobilenetv2_035"]


KINDS: dict[str, Callable[[Tree], None]] = {
    kind.__name__: kind
    for kind in (whole, patches, classes, no_background, folds, tuning, fine_tune)
}


def shrunk() -> Tree:
    """The committed params, small enough for seconds."""
    tree: Tree = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    tree["dataset"].update(num_sequences=16, frames_per_sequence=3, height=72, width=80)
    tree["augment"].update(height=64, width=64, preview_samples=2)
    tree["model"]["architecture_args"]["decoder_channels"] = [32, 16, 16, 8, 8]
    tree["train"].update(num_epochs=2, batch_size=4)
    tree["hardware"].update(device="cpu", threads=1, workers=0)
    tree["comparison"].update(
        candidates=["mobilenetv2_035", "regnetx_002"], seeds=[0], num_resamples=200
    )
    tree["report"]["num_samples"] = 2
    return tree


def make_folder(folder: Path) -> None:
    """Discs (1) and boxes (2) on noise, with an ignored rim (255) now and then."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for group, part in itertools.product(range(16), "ab"):
        mask = np.zeros((70, 90), np.uint8)
        cv2.circle(mask, (int(rng.integers(15, 40)), 35), int(rng.integers(8, 14)), 1, -1)
        left = int(rng.integers(50, 65))
        cv2.rectangle(mask, (left, 20), (left + 15, 20 + int(rng.integers(10, 40))), 2, -1)
        image = (60 + 70 * mask)[..., None] + rng.normal(0, 25, (70, 90, 3))
        if part == "b":
            mask[:3] = 255
        name = f"g{group:02}_{part}.png"
        cv2.imwrite(str(folder / "images" / name), image.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / name), mask)


def commands(tree: Tree) -> Iterator[list[str]]:
    """The commands of dvc.yaml, its matrices and templates filled in."""
    for stage in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].values():
        axes = {
            name: tree["comparison"][re.fullmatch(r"\$\{comparison\.(\w+)\}", values)[1]]  # type: ignore[index]
            for name, values in stage.get("matrix", {}).items()
        }
        for items in itertools.product(*axes.values()):
            item = zip(axes, items, strict=True)
            flags = " ".join(f"--{name} {value}" for name, value in item)
            text = stage["cmd"].replace("${item}", flags)
            yield shlex.split(text)[1:]


class NoFollower:
    """In place of the process that replays a record into MLflow."""

    def follow(self, folder: Path) -> None:
        pass

    def wait(self, max_wait_s: float) -> bool:
        return True

    reached = wait

    def end(self) -> None:
        pass


def run(kind: str) -> Iterator[str]:
    """Run one kind in the current folder; lines to print."""
    tree = shrunk()
    KINDS[kind](tree)
    with open("params.yaml", "w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    for script, *arguments in commands(tree):
        sys.argv = [script, *arguments]
        runpy.run_path(str(ROOT / script), run_name="__main__")
    for pattern in HASHED:
        for path in sorted(Path().glob(pattern)):
            yield f"{kind} {path} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def main() -> None:
    sys.path.insert(0, str(ROOT / "src"))
    warnings.simplefilter("ignore")
    from segbench import stage
    from segbench.tracking import follower

    stage.leave = lambda: None  # this process goes on
    follower.Follower = NoFollower
    out = os.dup(1)
    os.dup2(2, 1)  # what stages print goes beside the digits, not among them
    for kind in sys.argv[1:] or list(KINDS):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for line in run(kind):
                os.write(out, f"{line}\n".encode())
            os.chdir("/")


if __name__ == "__main__":
    main()
