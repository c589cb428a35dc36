"""Start-up of the train stage, from the process's start to its first step.

    (d) seconds until the first step is done, by part, over those that
        `import torch, segmentation_models_pytorch, lightning_fabric` takes alone

Processes alternate, and what counts is the median of each.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from segbench.arrays.store import write_header
from segbench.arrays.transforms import build_pipeline, save_pipeline
from training import INFO, SIZE, Header, configured, generate

ROUNDS = 5
BASE = "import torch, segmentation_models_pytorch, lightning_fabric"
OURS = """
import os, sys, time
from pathlib import Path
marks = {"interpreter": time.time()}
from segbench.tracking import follower
follower.start()  # as the stage does
from segbench.params import load_params
from segbench.training import train as stage
from segbench.training.trainer import Trainer
marks["imports"] = time.time()

def noted(owner, name, label):
    call = getattr(owner, name)
    def around(*arguments, **named):
        result = call(*arguments, **named)
        marks.setdefault(label, time.time())
        return result
    setattr(owner, name, around)

noted(stage, "make_fabric", "fabric")
noted(stage, "checkpoint_key", "description and key")
noted(stage, "open_data", "tracking and data")
noted(stage, "freeze", "network")
noted(Trainer, "_make_learner", "optimiser")
noted(Trainer, "train_step", "first batch and step")
step = Trainer.train_step
def last(*arguments):
    step(*arguments)
    print(repr(marks), flush=True)
    os._exit(0)
Trainer.train_step = last
root = Path(sys.argv[2])
stage.train(
    load_params(Path(sys.argv[1])), sys.argv[3], 0, 0, root / "arrays", root / "out",
    root / "history.csv", root / "run.json", root / "checkpoints",
)
"""


def main(path: Path) -> None:
    params = configured(path, 8)
    alias = params.comparison.candidates[0]
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        generate(root / "made", 64, 0)
        fold = root / "arrays" / "fold0"
        fold.mkdir(parents=True)
        for name in ("train", "val"):
            (fold / name).symlink_to(root / "made" / "arrays")
        write_header(root / "arrays", Header(INFO, SIZE, SIZE, 3, ""))
        save_pipeline(build_pipeline(params.augment), root / "arrays" / "pipeline.yaml")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root / 'mlflow.db'}"
        base, ours = [], []
        for _ in range(ROUNDS):
            started = time.time()
            subprocess.run([sys.executable, "-c", BASE], check=True)
            base.append(time.time() - started)
            started = time.time()
            command = [sys.executable, "-c", OURS, str(path), str(root), alias]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            ours.append(parts(eval(done.stdout), started))
            time.sleep(2)  # the follower, which lost its stage, is still on its way out
    medians = {name: statistics.median(row[name] for row in ours) for name in ours[0]}
    imports = statistics.median(base)
    found = {"imports_alone": imports, "parts": medians, "over_imports": medians["all"] / imports}
    print(f"(d) start-up {medians['all']:.2f} s, {found['over_imports']:.2f} of imports alone:")
    for name, seconds in medians.items():
        print(f"    {name:<24}{seconds:>7.2f} s")
    print(json.dumps({"bench": found}))


def parts(marks: dict[str, float], started: float) -> dict[str, float]:
    """Seconds of each part, and of all."""
    found, before = {}, started
    for name, at in sorted(marks.items(), key=lambda mark: mark[1]):
        found[name], before = at - before, at
    return {**found, "all": before - started}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
