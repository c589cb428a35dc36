"""Stages side by side: what the schedule adds, and what a comparison gains.

(h) seconds of stages that only sleep, over what as many slots allow: 12 of 20 s in 4 slots, and
    200 of 5 s in 16
(i) seconds of `segbench repro` in a fresh clone, over those of `segbench repro --jobs 1` in
    another: the default comparison with one seed and half its epochs

python benchmarks/jobs.py params.yaml
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

ROOT = Path(__file__).parent.parent
SIZES = ((12, 20, 4, 1.10), (200, 5, 16, 1.25))
"""Stages, seconds of each, slots, and what the ratio should stay below."""
SCHEDULE = """
import sys
from pathlib import Path
from segbench.jobs.machine import Machine
from segbench.jobs.memory import Memory
from segbench.jobs.pipeline import Pipeline
from segbench.jobs.schedule import Schedule
from segbench.jobs.slots import Slot
from segbench.jobs.view import View
slots, stages = int(sys.argv[1]), int(sys.argv[2])
with Pipeline(Path()) as pipeline, View(pipeline.stages, slots, sys.stderr) as view:
    here = Machine(pipeline, [Slot({}, "nothing")] * slots, Memory())
    outcome = Schedule(pipeline, [here], view).run()
assert len(outcome.done) == stages, outcome
"""


def sleeping(stages: int, seconds: int, slots: int) -> float:
    """Seconds that a pipeline of sleeping stages takes."""
    with TemporaryDirectory() as temporary:
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
            subprocess.run(command, cwd=temporary, check=True)
        work = {
            "matrix": {"item": list(range(stages))},
            "cmd": f"sleep {seconds} && echo ${{item.item}} > out${{item.item}}",
            "meta": {"runs": "beside"},
            "deps": ["needed"],  # without, DVC does not know it in its run cache
            "outs": ["out${item.item}"],
        }
        (Path(temporary) / "needed").write_text("by all\n")
        (Path(temporary) / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"work": work}}))
        return timed([sys.executable, "-c", SCHEDULE, str(slots), str(stages)], Path(temporary))


def comparison(path: Path, *options: str) -> float:
    """Seconds that a small comparison takes in a fresh clone."""
    with TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        tree = yaml.safe_load(path.read_text())
        tree["comparison"]["seeds"] = tree["comparison"]["seeds"][:1]
        tree["train"]["num_epochs"] = max(1, tree["train"]["num_epochs"] // 2)
        (clone / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        return timed([sys.executable, "-m", "segbench", "repro", *options], clone)


def timed(command: list[str], folder: Path) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    spent = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stdout)
    return spent


def main(path: Path) -> None:
    found: dict[str, float] = {}
    for stages, seconds, slots, bound in SIZES:
        ideal = stages * seconds / slots
        ratio = sleeping(stages, seconds, slots) / ideal
        found[f"{stages} stages in {slots} slots"] = ratio
        print(
            f"(h) {stages} stages of {seconds} s in {slots} slots: {ratio:.3f} of {ideal:.1f} s "
            f"(should be below {bound:.2f})",
            flush=True,
        )
    serial, beside = comparison(path, "--jobs", "1"), comparison(path)
    found["beside_over_serial"] = beside / serial
    print(
        f"(i) a comparison takes {serial:.0f} s with --jobs 1, and {beside:.0f} s as 'segbench "
        f"repro' runs it by itself: {found['beside_over_serial']:.2f}"
    )
    print(json.dumps({"bench": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
