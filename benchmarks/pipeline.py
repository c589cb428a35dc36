"""The whole default pipeline over its training steps alone.

(f) seconds of `dvc repro` in a fresh clone, less what its processes take to import, over the
    seconds that training steps take
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from segbench.comparison.training_effort import training_seconds

ROOT = Path(__file__).parent.parent
MODULES = {
    "download": "datasets.download",
    "split": "splits.split",
    "augment": "arrays.augment",
    "train": "training.train",
    "evaluate": "evaluation.evaluate",
    "measure": "evaluation.inference",
    "compare": "comparison.compare",
}
"""The module of each stage's function."""


def main() -> None:
    with TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(clone / "src"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{clone / 'mlflow.db'}",
        }
        repro = [sys.executable, "-m", "dvc", "repro", "--quiet"]
        started = time.perf_counter()
        subprocess.run(repro, cwd=clone, env=environment, check=True)
        whole = time.perf_counter() - started
        started = time.perf_counter()
        subprocess.run(repro, cwd=clone, env=environment, check=True)
        dvc = time.perf_counter() - started  # nothing to do but to look
        runs = sorted((clone / "data" / "train").iterdir())
        steps = sum(training_seconds(run / "record") for run in runs)
        stages = Counter(download=1, split=1, augment=1, measure=1, compare=1)
        stages.update(train=len(runs), evaluate=len(runs))
        imports = {name: import_seconds(clone, name, environment) for name in stages}
    start_up = dvc + sum(count * imports[name] for name, count in stages.items())
    found = {
        "whole": whole,
        "steps": steps,
        "start_up": start_up,
        "imports": imports,
        "over_steps": (whole - start_up) / steps,
    }
    print(
        f"(f) dvc repro {whole:.0f} s, of which {start_up:.0f} s start-up of {stages.total()} "
        f"stages and of DVC, and {steps:.0f} s training steps: "
        f"{found['over_steps']:.2f} without start-up"
    )
    print(json.dumps({"bench": found}))


def import_seconds(clone: Path, stage: str, environment: dict[str, str]) -> float:
    """What a process takes that only imports what a stage needs."""
    command = [sys.executable, "-c", f"import segbench.params, segbench.{MODULES[stage]}"]
    started = time.perf_counter()
    subprocess.run(command, cwd=clone, env=environment, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
